//! From transformers' names to the published ones.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::EvalError;

/// What no feature depends on: the token that hides patches in training.
const MASK: &str = "mask_token";
/// What models around transformers' network put before its names.
const WRAPPER: &str = "dinov2.";

/// Names outside the blocks, transformers' first.
const AROUND: [(&str, &str); 5] = [
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.mask_token", MASK),
    ("layernorm", "norm"),
];
/// Names within a block, transformers' first.
const WITHIN: [(&str, &str); 8] = [
    ("attention.output.dense", "attn.proj"),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("mlp.weights_in", "mlp.w12"),
    ("mlp.weights_out", "mlp.w3"),
    ("mlp", "mlp"),
    ("norm1", "norm1"),
    ("norm2", "norm2"),
];
/// Of which the published code has one map of three times the outputs, in this order.
const JOINED: [&str; 3] = ["attention.attention.query", "attention.attention.key", "attention.attention.value"];

/// The tensors under the published names: transformers' are renamed, and its maps of queries, keys and values joined; names that
/// neither has stay as they are.
pub(super) fn published(tensors: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>, EvalError> {
    let mut named = Vec::with_capacity(tensors.len());
    let mut parts: BTreeMap<String, [Option<Tensor>; 3]> = BTreeMap::new();
    for (name, tensor) in tensors {
        match part_of_joined(&name) {
            Some((joined, place)) => parts.entry(joined).or_default()[place] = Some(tensor),
            None => named.push((renamed(&name).unwrap_or(name), tensor)),
        }
    }
    for (joined, parts) in parts {
        // One that lacks a part will lack a key, or have one of the wrong shape: the check of all keys says so.
        let there: Vec<Tensor> = parts.into_iter().flatten().collect();
        named.push((joined, Tensor::f_cat(&there, 0)?));
    }
    named.retain(|(name, _)| name != MASK);
    Ok(named)
}

/// The joined map that a tensor is a part of, and its place there.
fn part_of_joined(name: &str) -> Option<(String, usize)> {
    let (block, rest) = within_block(name)?;
    JOINED.iter().enumerate().find_map(|(place, part)| {
        let kind = rest.strip_prefix(part)?.strip_prefix('.')?;
        Some((format!("blocks.{block}.attn.qkv.{kind}"), place))
    })
}

fn renamed(name: &str) -> Option<String> {
    if let Some((block, rest)) = within_block(name) {
        return Some(format!("blocks.{block}.{}", replaced(rest, &WITHIN)?));
    }
    replaced(name.strip_prefix(WRAPPER).unwrap_or(name), &AROUND)
}

/// Number of the block, and the name within it.
fn within_block(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(WRAPPER).unwrap_or(name).strip_prefix("encoder.layer.")?.split_once('.')
}

/// The name with a whole first part of it replaced.
fn replaced(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table.iter().find_map(|(theirs, ours)| {
        let rest = name.strip_prefix(theirs)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{ours}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_of_transformers_become_the_published_ones() {
        for (theirs, ours) in [
            ("embeddings.cls_token", "cls_token"),
            ("dinov2.embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias"),
            ("encoder.layer.11.attention.output.dense.weight", "blocks.11.attn.proj.weight"),
            ("encoder.layer.0.layer_scale2.lambda1", "blocks.0.ls2.gamma"),
            ("encoder.layer.3.mlp.fc1.weight", "blocks.3.mlp.fc1.weight"),
            ("encoder.layer.3.mlp.weights_in.bias", "blocks.3.mlp.w12.bias"),
            ("layernorm.weight", "norm.weight"),
        ] {
            assert_eq!(renamed(theirs).as_deref(), Some(ours));
        }
        for kept in ["blocks.0.norm1.weight", "cls_token", "classifier.weight", "encoder.layer.0.other", "layernormal"]
        {
            assert_eq!(renamed(kept), None, "{kept}");
        }
    }

    #[test]
    fn queries_keys_and_values_are_joined_in_their_order_and_the_mask_is_dropped() {
        let part = |name: &str, value: f32| {
            (format!("encoder.layer.2.attention.attention.{name}.bias"), Tensor::from_slice(&[value, value]))
        };
        let tensors = vec![
            part("value", 3.0),
            part("query", 1.0),
            ("mask_token".to_owned(), Tensor::from(0.0_f32)),
            part("key", 2.0),
        ];
        let named = published(tensors).unwrap();
        let [(name, joined)] = &named[..] else { panic!("{named:?}") };
        assert_eq!(name, "blocks.2.attn.qkv.bias");
        assert_eq!(Vec::<f32>::try_from(joined).unwrap(), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    }
}
