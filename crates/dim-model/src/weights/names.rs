//! The authors' parameter names and ours, one to one.
//!
//! The table is the contract between a network's specifications, files under our names and files under the names of
//! the authors' code (Teng et al. 2024, arXiv 2405.14224). It stands in the order of the authors' state dictionary.
//! `{i}` is a block's number. A file has either the one skip linear (the authors build it up to `d_model` 512) or the
//! two.

use tch::Tensor;

use super::layout::Layout::{self, ChannelMajor, LeadingOne, Same, SecondOne};

/// One parameter, or one parameter of every block.
struct Row {
    authors: &'static str,
    ours: &'static str,
    layout: Layout,
}

const fn row(authors: &'static str, ours: &'static str, layout: Layout) -> Row {
    Row { authors, ours, layout }
}

#[rustfmt::skip] // a table reads by its columns
const TABLE: &[Row] = &[
    row("additional_embed",                                       "position_table",                      LeadingOne),
    row("pos_embed.proj.weight",                                  "patch_embed.weight",                  Same),
    row("pos_embed.proj.bias",                                    "patch_embed.bias",                    Same),
    row("transformer_blocks.{i}.scale_shift_table",               "blocks.{i}.modulation_table",         Same),
    row("transformer_blocks.{i}.norm1.norm.weight",               "blocks.{i}.norm.weight",              Same),
    row("transformer_blocks.{i}.attn1.A_log",                     "blocks.{i}.mamba.a_log",              Same),
    row("transformer_blocks.{i}.attn1.D",                         "blocks.{i}.mamba.d",                  Same),
    row("transformer_blocks.{i}.attn1.in_proj.weight",            "blocks.{i}.mamba.in_proj.weight",     Same),
    row("transformer_blocks.{i}.attn1.conv1d.weight",             "blocks.{i}.mamba.conv1d.weight",      SecondOne),
    row("transformer_blocks.{i}.attn1.conv1d.bias",               "blocks.{i}.mamba.conv1d.bias",        Same),
    row("transformer_blocks.{i}.attn1.x_proj.weight",             "blocks.{i}.mamba.x_proj.weight",      Same),
    row("transformer_blocks.{i}.attn1.dt_proj.weight",            "blocks.{i}.mamba.dt_proj.weight",     Same),
    row("transformer_blocks.{i}.attn1.dt_proj.bias",              "blocks.{i}.mamba.dt_proj.bias",       Same),
    row("transformer_blocks.{i}.attn1.out_proj.weight",           "blocks.{i}.mamba.out_proj.weight",    Same),
    row("transformer_blocks.{i}.skip_linear.weight",              "blocks.{i}.long_skip.weight",         Same),
    row("transformer_blocks.{i}.skip_linear.bias",                "blocks.{i}.long_skip.bias",           Same),
    row("transformer_blocks.{i}.skip_linear.0.weight",            "blocks.{i}.long_skip.state.weight",   Same),
    row("transformer_blocks.{i}.skip_linear.0.bias",              "blocks.{i}.long_skip.state.bias",     Same),
    row("transformer_blocks.{i}.skip_linear.1.weight",            "blocks.{i}.long_skip.skip.weight",    Same),
    row("transformer_blocks.{i}.skip_linear.1.bias",              "blocks.{i}.long_skip.skip.bias",      Same),
    row("norm_out.norm.weight",                                   "norm_out.weight",                     Same),
    row("adaln_single.emb.timestep_embedder.linear_1.weight",     "time_embed.linear_1.weight",          Same),
    row("adaln_single.emb.timestep_embedder.linear_1.bias",       "time_embed.linear_1.bias",            Same),
    row("adaln_single.emb.timestep_embedder.linear_2.weight",     "time_embed.linear_2.weight",          Same),
    row("adaln_single.emb.timestep_embedder.linear_2.bias",       "time_embed.linear_2.bias",            Same),
    row("adaln_single.emb.class_embedder.embedding_table.weight", "class_embed.modulation",              Same),
    row("adaln_single.linear.weight",                             "modulation.weight",                   Same),
    row("adaln_single.linear.bias",                               "modulation.bias",                     Same),
    row("label_emb.weight",                                       "class_embed.token",                   Same),
    row("a4m_adapter.pad_token_dec_split",                        "separator_tokens",                    LeadingOne),
    row("a4m_adapter.pad_token",                                  "padding_tokens",                      ChannelMajor),
    row("a4m_adapter.first_smoother.weight",                      "local_conv_in.weight",                SecondOne),
    row("a4m_adapter.first_smoother.bias",                        "local_conv_in.bias",                  Same),
    row("a4m_adapter.last_smoother.weight",                       "local_conv_out.weight",               SecondOne),
    row("a4m_adapter.last_smoother.bias",                         "local_conv_out.bias",                 Same),
    row("proj_out_2.weight",                                      "output.proj.weight",                  Same),
    row("proj_out_2.bias",                                        "output.proj.bias",                    Same),
    row("proj_out_1.weight",                                      "output.modulation.weight",            Same),
    row("proj_out_1.bias",                                        "output.modulation.bias",              Same),
];

const BLOCK: &str = "{i}";

/// Our name for the authors' parameter `name`, and how its layout changes; `None` for a name that is not theirs.
#[must_use]
pub fn name_to_ours(name: &str) -> Option<(String, Layout)> {
    translate(name, |row| (row.authors, row.ours))
}

/// The authors' name for our parameter `name`, and how its layout changes; `None` for a name that is not ours.
#[must_use]
pub fn name_to_authors(name: &str) -> Option<(String, Layout)> {
    translate(name, |row| (row.ours, row.authors))
}

/// The authors' parameter `name` under our name and in our layout, a view of `tensor`.
///
/// `None` for a name that is not theirs, or a shape that their layout cannot have.
#[must_use]
pub fn to_ours(name: &str, tensor: &Tensor) -> Option<(String, Tensor)> {
    let (name, layout) = name_to_ours(name)?;
    Some((name, layout.to_ours(tensor)?))
}

/// Our parameter `name` under the authors' name and in their layout, a view of `tensor`.
///
/// `None` for a name that is not ours, or a shape that our layout cannot have.
#[must_use]
pub fn to_authors(name: &str, tensor: &Tensor) -> Option<(String, Tensor)> {
    let (name, layout) = name_to_authors(name)?;
    Some((name, layout.to_authors(tensor)?))
}

fn translate(name: &str, columns: impl Fn(&Row) -> (&'static str, &'static str)) -> Option<(String, Layout)> {
    TABLE.iter().find_map(|row| {
        let (from, to) = columns(row);
        let translated = match block_number(name, from)? {
            Some(number) => to.replace(BLOCK, number),
            None => to.to_owned(),
        };
        Some((translated, row.layout))
    })
}

/// The block's number if `name` has the form of `pattern`: `Some(None)` where the pattern has no block.
///
/// Only the usual way to write a number counts (`7`, not `07` or `+7`), so that no two names mean one parameter.
fn block_number<'name>(name: &'name str, pattern: &str) -> Option<Option<&'name str>> {
    let Some((prefix, suffix)) = pattern.split_once(BLOCK) else {
        return (name == pattern).then_some(None);
    };
    let number = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let canonical = number.parse::<u32>().is_ok_and(|value| value.to_string() == number);
    canonical.then_some(Some(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_name_stands_twice_and_none_is_both_the_authors_and_ours() {
        let names: BTreeSet<&str> = TABLE.iter().flat_map(|row| [row.authors, row.ours]).collect();
        assert_eq!(names.len(), 2 * TABLE.len());
        for row in TABLE {
            assert_eq!(row.authors.contains(BLOCK), row.ours.contains(BLOCK), "{}", row.authors);
        }
    }

    #[test]
    fn unusual_numbers_and_near_misses_are_not_names() {
        for name in [
            "transformer_blocks.07.attn1.D",
            "transformer_blocks.+7.attn1.D",
            "transformer_blocks..attn1.D",
            "transformer_blocks.-1.attn1.D",
            "transformer_blocks.4294967296.attn1.D",
            "transformer_blocks.7.attn1.d",
            "transformer_blocks.7.attn1.D.",
            "additional_embed.weight",
            "",
        ] {
            assert_eq!(name_to_ours(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_of_every_block_goes_there_and_back(line in 0..TABLE.len(), block in any::<u32>()) {
            let authors = TABLE[line].authors.replace(BLOCK, &block.to_string());
            let (ours, layout) = name_to_ours(&authors).unwrap();
            prop_assert_eq!(&ours, &TABLE[line].ours.replace(BLOCK, &block.to_string()));
            prop_assert_eq!(name_to_authors(&ours), Some((authors.clone(), layout)));
            prop_assert_eq!(name_to_ours(&ours), None);
            prop_assert_eq!(name_to_authors(&authors), None);
        }

        #[test]
        fn names_that_are_translated_come_back_as_they_were(name in "(transformer_blocks|blocks)\\.[0-9+]{1,3}\\.(mamba|attn1)\\.(d|D)") {
            if let Some((ours, _)) = name_to_ours(&name) {
                prop_assert_eq!(name_to_authors(&ours).unwrap().0, name.clone());
            }
            if let Some((authors, _)) = name_to_authors(&name) {
                prop_assert_eq!(name_to_ours(&authors).unwrap().0, name);
            }
        }
    }
}
