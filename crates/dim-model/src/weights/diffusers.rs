//! The names of diffusers' `AutoencoderKL` and the published ones, one to one.
//!
//! Source: Rombach et al. 2021 (arXiv 2112.10752) for the network; the names are those of the files in the wild. Two things
//! are more than a change of words. The decoder's levels are counted from the other end: `up_blocks.0` is the first to be
//! computed, `up.0` the last. And attention's maps are linear there, `[output, input]`, and 1 × 1 convolutions here.

use tch::Tensor;

use super::layout::Layout;

/// How diffusers calls the maps of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionNames {
    /// `to_q`, `to_k`, `to_v`, `to_out.0`.
    #[default]
    Newer,
    /// `query`, `key`, `value`, `proj_attn`, as in files of 2022, Stable Diffusion's own among them.
    Older,
}

/// Parts of a layer: diffusers' name, and the published one.
type Parts = &'static [(&'static str, &'static str)];

const RESIDUAL: Parts = &[
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("conv_shortcut", "nin_shortcut"),
];
const ATTENTION: Parts =
    &[("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")];
const OLDER_ATTENTION: Parts =
    &[("group_norm", "norm"), ("query", "q"), ("key", "k"), ("value", "v"), ("proj_attn", "proj_out")];
/// A layer without parts.
const WHOLE: Parts = &[("", "")];

/// A layer or every layer of a kind: `{l}` is a level, `{r}` the same counted from the other end, `{b}` a block.
struct Row {
    diffusers: &'static str,
    ours: &'static str,
    parts: Parts,
}

const fn row(diffusers: &'static str, ours: &'static str, parts: Parts) -> Row {
    Row { diffusers, ours, parts }
}

#[rustfmt::skip] // a table reads by its columns
const TABLE: &[Row] = &[
    row("encoder.conv_in",                               "encoder.conv_in",                 WHOLE),
    row("encoder.down_blocks.{l}.resnets.{b}",           "encoder.down.{l}.block.{b}",      RESIDUAL),
    row("encoder.down_blocks.{l}.attentions.{b}",        "encoder.down.{l}.attn.{b}",       ATTENTION),
    row("encoder.down_blocks.{l}.downsamplers.0.conv",   "encoder.down.{l}.downsample.conv", WHOLE),
    row("encoder.mid_block.resnets.0",                   "encoder.mid.block_1",             RESIDUAL),
    row("encoder.mid_block.attentions.0",                "encoder.mid.attn_1",              ATTENTION),
    row("encoder.mid_block.resnets.1",                   "encoder.mid.block_2",             RESIDUAL),
    row("encoder.conv_norm_out",                         "encoder.norm_out",                WHOLE),
    row("encoder.conv_out",                              "encoder.conv_out",                WHOLE),
    row("decoder.conv_in",                               "decoder.conv_in",                 WHOLE),
    row("decoder.mid_block.resnets.0",                   "decoder.mid.block_1",             RESIDUAL),
    row("decoder.mid_block.attentions.0",                "decoder.mid.attn_1",              ATTENTION),
    row("decoder.mid_block.resnets.1",                   "decoder.mid.block_2",             RESIDUAL),
    row("decoder.up_blocks.{r}.resnets.{b}",             "decoder.up.{l}.block.{b}",        RESIDUAL),
    row("decoder.up_blocks.{r}.attentions.{b}",          "decoder.up.{l}.attn.{b}",         ATTENTION),
    row("decoder.up_blocks.{r}.upsamplers.0.conv",       "decoder.up.{l}.upsample.conv",    WHOLE),
    row("decoder.conv_norm_out",                         "decoder.norm_out",                WHOLE),
    row("decoder.conv_out",                              "decoder.conv_out",                WHOLE),
    row("quant_conv",                                    "quant_conv",                      WHOLE),
    row("post_quant_conv",                               "post_quant_conv",                 WHOLE),
];

/// The published name for diffusers' parameter `name` of an autoencoder of `levels` resolutions, and how its layout changes;
/// `None` for a name that is not theirs. Both ways to call attention's maps are understood.
#[must_use]
pub fn name_to_ours(name: &str, levels: usize) -> Option<(String, Layout)> {
    TABLE.iter().find_map(|row| {
        let (numbers, rest) = strip(name, row.diffusers, levels)?;
        let older = if row.parts == ATTENTION { OLDER_ATTENTION } else { &[] };
        let (part, leaf) = split_leaf(rest)?;
        let (_, ours) = row.parts.iter().chain(older).find(|(theirs, _)| *theirs == part)?;
        Some((numbers.join(row.ours, ours, leaf, levels), layout(row, ours, leaf)))
    })
}

/// Diffusers' name for the published parameter `name` of an autoencoder of `levels` resolutions, and how its layout changes;
/// `None` for a name that is not a published one.
#[must_use]
pub fn name_to_diffusers(name: &str, levels: usize, attention: AttentionNames) -> Option<(String, Layout)> {
    TABLE.iter().find_map(|row| {
        let (numbers, rest) = strip(name, row.ours, levels)?;
        let parts =
            if row.parts == ATTENTION && attention == AttentionNames::Older { OLDER_ATTENTION } else { row.parts };
        let (part, leaf) = split_leaf(rest)?;
        let (theirs, ours) = parts.iter().find(|(_, ours)| *ours == part)?;
        Some((numbers.join(row.diffusers, theirs, leaf, levels), layout(row, ours, leaf)))
    })
}

/// The published parameter `name` under diffusers' name and in its layout, a view of `tensor`.
///
/// `None` for a name that is not a published one, or a shape that such a parameter cannot have.
#[must_use]
pub fn to_diffusers(name: &str, tensor: &Tensor, levels: usize, attention: AttentionNames) -> Option<(String, Tensor)> {
    let (name, layout) = name_to_diffusers(name, levels, attention)?;
    Some((name, layout.to_authors(tensor)?))
}

fn layout(row: &Row, our_part: &str, leaf: &str) -> Layout {
    let linear = row.parts == ATTENTION && our_part != "norm" && leaf == "weight";
    if linear { Layout::PointConvolution } else { Layout::Same }
}

/// The part, which a layer without parts does not have, and `weight` or `bias` behind it.
fn split_leaf(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix('.')?;
    let (part, leaf) = match rest.rsplit_once('.') {
        Some(("", _)) => return None,
        Some(split) => split,
        None => ("", rest),
    };
    matches!(leaf, "weight" | "bias").then_some((part, leaf))
}

/// The numbers in a name.
#[derive(Default)]
struct Numbers {
    level: usize,
    block: u32,
}

impl Numbers {
    fn join(&self, pattern: &str, part: &str, leaf: &str, levels: usize) -> String {
        let reversed = levels.saturating_sub(1).saturating_sub(self.level);
        let layer = pattern
            .replace("{l}", &self.level.to_string())
            .replace("{r}", &reversed.to_string())
            .replace("{b}", &self.block.to_string());
        if part.is_empty() { format!("{layer}.{leaf}") } else { format!("{layer}.{part}.{leaf}") }
    }
}

/// The numbers in a name that starts with `pattern`, and what is behind it with its dot.
///
/// Only the usual way to write a number counts, and only levels that there are, so that no two names mean one parameter.
fn strip<'name>(name: &'name str, pattern: &str, levels: usize) -> Option<(Numbers, &'name str)> {
    let mut numbers = Numbers::default();
    let mut rest = name;
    for (index, segment) in pattern.split('.').enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('.')?;
        }
        let end = rest.find('.')?;
        let came = &rest[..end];
        let number = || came.parse::<u32>().ok().filter(|number| number.to_string() == came);
        let level = || number().and_then(|level| usize::try_from(level).ok()).filter(|level| *level < levels);
        match segment {
            "{l}" => numbers.level = level()?,
            "{r}" => numbers.level = levels - 1 - level()?,
            "{b}" => numbers.block = number()?,
            _ if segment == came => {}
            _ => return None,
        }
        rest = &rest[end..];
    }
    Some((numbers, rest))
}

#[cfg(test)]
#[path = "diffusers_tests.rs"]
mod tests;
