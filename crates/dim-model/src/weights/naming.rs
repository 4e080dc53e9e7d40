//! Which names a set of keys has, and the steps that take them to ours.

use super::{layout::Layout, names};

/// Under which names weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The names of this crate's networks.
    #[default]
    Ours,
    /// The names and layouts of the authors' code, so that it can load the file.
    Authors,
}

/// A key of a file in our names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renamed {
    /// Our name; a key that is in nobody's table keeps its own.
    pub(super) name: String,
    /// How the tensor's layout changes.
    pub(super) layout: Layout,
}

/// The keys of a file in our names, in the order of the file.
///
/// A prefix that all keys share, such as `module.` from PyTorch's data parallelism, is taken off first; then the
/// authors' names are translated, if at least half of the keys are theirs: other networks have a `label_emb.weight` too.
pub(super) fn to_ours(keys: &[&str]) -> Vec<Renamed> {
    let prefix = foreign_prefix(keys);
    let bare = || keys.iter().map(|key| &key[prefix.len()..]);
    let (authors, ours) = (recognised_authors(bare()), recognised_ours(bare()));
    let are_authors = authors > ours && 2 * authors >= keys.len();
    bare()
        .map(|key| match names::name_to_ours(key).filter(|_| are_authors) {
            Some((name, layout)) => Renamed { name, layout },
            None => Renamed { name: key.to_owned(), layout: Layout::Same },
        })
        .collect()
}

fn recognised_authors<'a>(keys: impl Iterator<Item = &'a str>) -> usize {
    keys.filter(|key| names::name_to_ours(key).is_some()).count()
}

fn recognised_ours<'a>(keys: impl Iterator<Item = &'a str>) -> usize {
    keys.filter(|key| names::name_to_authors(key).is_some()).count()
}

/// The leading dotted parts that all keys share, as few as it takes until some key is in the table; otherwise none.
fn foreign_prefix<'a>(keys: &[&'a str]) -> &'a str {
    let Some(first) = keys.first() else { return "" };
    let mut prefix = "";
    loop {
        let mut bare = keys.iter().map(|key| &key[prefix.len()..]);
        if bare.clone().any(|key| names::name_to_ours(key).is_some() || names::name_to_authors(key).is_some()) {
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
        to_ours(keys).into_iter().map(|renamed| renamed.name).collect()
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
}
