//! Which names a set of keys has, and the steps that take them to ours.

use super::{autoencoder, layout::Layout, names};

/// Under which names weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The names of this crate's networks.
    #[default]
    Ours,
    /// The names and layouts of the authors' code, so that it can load the file.
    Authors,
    /// An autoencoder's in diffusers ([`super::diffusers`]).
    Diffusers {
        /// Resolutions of the network, which diffusers counts from the other end in the decoder.
        levels: usize,
    },
}

/// The names that a network's weights may have in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameTable {
    /// DiM's: ours or the authors' ([`names`]).
    Dim,
    /// Those of a network whose parameters are called here as its authors call them.
    AsPublished(&'static PublishedNames),
    /// An autoencoder's: the published ones, alone or within a checkpoint of Stable Diffusion, or diffusers'
    /// ([`super::diffusers`]).
    Autoencoder {
        /// Resolutions of the network, which diffusers counts from the other end in the decoder.
        levels: usize,
    },
}

/// What tells the names of a network's checkpoint from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedNames {
    /// What may stand before the first dot of a name.
    pub first_parts: &'static [&'static str],
    /// Names of what checkpoints hold though the network computes it: they are passed over.
    pub computed: &'static [&'static str],
}

/// A key of a file in our names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renamed {
    /// Our name; a key that is in nobody's table keeps its own.
    pub(super) name: String,
    /// How the tensor's layout changes.
    pub(super) layout: Layout,
    /// Whether the network has no use for this: it computes it by itself, or it is another network's.
    pub(super) passed_over: bool,
}

impl Renamed {
    pub(super) fn same(name: &str) -> Self {
        Self { name: name.to_owned(), layout: Layout::Same, passed_over: false }
    }
}

/// The keys of a file in our names, in the order of the file.
///
/// A prefix that all keys share, such as `module.` from PyTorch's data parallelism, is taken off first; then DiM's authors'
/// names are translated, unless more keys are ours already.
pub(super) fn to_ours(keys: &[&str], table: NameTable) -> Vec<Renamed> {
    match table {
        NameTable::Dim => {
            let in_table = |key: &str| names::name_to_ours(key).is_some() || names::name_to_authors(key).is_some();
            let prefix = foreign_prefix(keys, in_table);
            let bare = || keys.iter().map(|key| &key[prefix.len()..]);
            let (authors, ours) = (recognised_authors(bare()), recognised_ours(bare()));
            bare()
                .map(|key| match names::name_to_ours(key).filter(|_| authors > ours) {
                    Some((name, layout)) => Renamed { name, layout, passed_over: false },
                    None => Renamed::same(key),
                })
                .collect()
        }
        NameTable::AsPublished(published) => {
            let first_part =
                |key: &str| key.split('.').next().is_some_and(|part| published.first_parts.contains(&part));
            let prefix = foreign_prefix(keys, first_part);
            let bare = keys.iter().map(|key| &key[prefix.len()..]);
            bare.map(|key| Renamed { passed_over: published.computed.contains(&key), ..Renamed::same(key) }).collect()
        }
        NameTable::Autoencoder { levels } => autoencoder::to_ours(keys, levels),
    }
}

fn recognised_authors<'a>(keys: impl Iterator<Item = &'a str>) -> usize {
    keys.filter(|key| names::name_to_ours(key).is_some()).count()
}

fn recognised_ours<'a>(keys: impl Iterator<Item = &'a str>) -> usize {
    keys.filter(|key| names::name_to_authors(key).is_some()).count()
}

/// The leading dotted parts that all keys share, as few as it takes until some key is in the table; otherwise none.
pub(super) fn foreign_prefix<'a>(keys: &[&'a str], in_table: impl Fn(&str) -> bool) -> &'a str {
    let Some(first) = keys.first() else { return "" };
    let mut prefix = "";
    loop {
        let mut bare = keys.iter().map(|key| &key[prefix.len()..]);
        if bare.clone().any(&in_table) {
            return prefix;
        }
        let Some(dot) = first[prefix.len()..].find('.') else { return "" };
        let part = &first[prefix.len()..=prefix.len() + dot];
        if !bare.all(|key| key.starts_with(part)) {
            return "";
        }
        prefix = &first[..prefix.len() + part.len()];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(keys: &[&str]) -> Vec<String> {
        to_ours(keys, NameTable::Dim).into_iter().map(|renamed| renamed.name).collect()
    }

    #[test]
    fn authors_names_become_ours_and_unknown_keys_stay() {
        assert_eq!(
            renamed(&["label_emb.weight", "norm_out.norm.weight", "x"]),
            ["class_embed.token", "norm_out.weight", "x"]
        );
        assert_eq!(renamed(&["class_embed.token", "x.weight"]), ["class_embed.token", "x.weight"]);
        assert_eq!(renamed(&[]), [""; 0]);
    }

    #[test]
    fn a_prefix_that_all_keys_share_is_taken_off() {
        let expected = ["class_embed.token", "norm_out.weight"];
        assert_eq!(renamed(&["module.label_emb.weight", "module.norm_out.norm.weight"]), expected);
        assert_eq!(renamed(&["ema.module.class_embed.token", "ema.module.norm_out.weight"]), expected);
    }

    #[test]
    fn a_prefix_that_is_part_of_a_name_or_leads_nowhere_stays() {
        assert_eq!(
            renamed(&["blocks.0.norm.weight", "blocks.1.norm.weight"]),
            ["blocks.0.norm.weight", "blocks.1.norm.weight"]
        );
        assert_eq!(renamed(&["transformer_blocks.0.attn1.D"]), ["blocks.0.mamba.d"]);
        assert_eq!(
            renamed(&["encoder.conv.weight", "encoder.conv.bias"]),
            ["encoder.conv.weight", "encoder.conv.bias"]
        );
        assert_eq!(
            renamed(&["module.label_emb.weight", "label_emb.weight"]),
            ["module.label_emb.weight", "class_embed.token"]
        );
    }

    #[test]
    fn published_names_stay_and_what_is_computed_is_told() {
        const PUBLISHED: PublishedNames = PublishedNames { first_parts: &["blocks", "table"], computed: &["table"] };
        let keys = ["module.table", "module.blocks.0.weight", "module.label_emb.weight"];
        let renamed = to_ours(&keys, NameTable::AsPublished(&PUBLISHED));
        let expected = [("table", true), ("blocks.0.weight", false), ("label_emb.weight", false)];
        let renamed: Vec<_> = renamed.iter().map(|renamed| (renamed.name.as_str(), renamed.passed_over)).collect();
        assert_eq!(renamed, expected);
    }
}
