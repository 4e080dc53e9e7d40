//! Which sizes a DINOv2 network has, told by its tensors, and the names and shapes of its weights.
//!
//! Names are those of the published code (`dinov2/models/vision_transformer.py`), as in `dinov2_vitl14_pretrain.pth`.

use std::collections::BTreeMap;

use dim_torch::ParameterSpec;

use crate::EvalError;

/// Channels of an image.
const RGB: i64 = 3;
/// Width of a head, of every size of the network.
const HEAD: i64 = 64;

/// What stands behind the attention in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// Linear map, GELU, linear map: all sizes but the largest.
    Mlp,
    /// `w3(silu(a) · b)` of the halves a and b of `w12(x)` (Shazeer 2020, arXiv 2002.05202): the largest.
    SwiGlu,
}

/// The sizes of a DINOv2 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dinov2Layout {
    /// Channels of a token: the number of features.
    pub width: i64,
    /// Blocks.
    pub depth: i64,
    /// What stands behind the attention.
    pub feed_forward: FeedForward,
    /// Width within it.
    pub hidden: i64,
    /// Pixels along the side of a patch.
    pub patch: i64,
    /// Patches along the side of the images that positions were learnt on.
    pub learnt_side: i64,
}

impl Dinov2Layout {
    /// The sizes of the network that tensors of these names and shapes belong to.
    ///
    /// # Errors
    /// [`EvalError::Argument`] if they belong to none.
    pub(super) fn of(shapes: &BTreeMap<&str, Vec<i64>>) -> Result<Self, EvalError> {
        let wrong = |got: String| EvalError::Argument {
            argument: "the weights of dinov2",
            expected:
                "of the published network (`cls_token`, `pos_embed`, `blocks.0.…`) or of transformers' Dinov2Model \
                       (`embeddings.cls_token`, `encoder.layer.0.…`)"
                    .to_owned(),
            got,
        };
        let Some(projection) = shapes.get("patch_embed.proj.weight") else {
            let mut some: Vec<&str> = shapes.keys().copied().take(3).collect();
            some.push("…");
            return Err(wrong(format!("{} tensors ({})", shapes.len(), some.join(", "))));
        };
        let &[width, RGB, patch, columns] = &projection[..] else {
            return Err(wrong(format!("`patch_embed.proj.weight` of shape {projection:?}")));
        };
        let rows = shapes.get("pos_embed").map_or(0, |shape| shape.get(1).copied().unwrap_or(0));
        let learnt_side = (rows - 1).max(0).isqrt();
        if width < HEAD || width % HEAD != 0 || patch < 1 || columns != patch || learnt_side * learnt_side != rows - 1 {
            return Err(wrong(format!("patches of {patch} x {columns} pixels and width {width}, {rows} positions")));
        }
        let depth = (0..).take_while(|block| shapes.contains_key(&*format!("blocks.{block}.norm1.weight"))).count();
        let first = |name: &str| shapes.get(&*format!("blocks.0.mlp.{name}.weight")).and_then(|shape| shape.first());
        let (feed_forward, hidden) = match (first("fc1"), first("w12")) {
            (Some(&hidden), _) => (FeedForward::Mlp, hidden),
            (None, Some(&both)) => (FeedForward::SwiGlu, both / 2),
            (None, None) => return Err(wrong(format!("{depth} blocks without a feed-forward layer"))),
        };
        Ok(Self { width, depth: depth as i64, feed_forward, hidden, patch, learnt_side })
    }

    pub(super) fn heads(&self) -> i64 {
        self.width / HEAD
    }

    /// As the published code calls the network, with `dinov2` alone for one of other sizes.
    pub(super) fn name(&self) -> &'static str {
        match (self.width, self.depth, self.patch) {
            (384, 12, 14) => "dinov2-vits14",
            (768, 12, 14) => "dinov2-vitb14",
            (1024, 24, 14) => "dinov2-vitl14",
            (1536, 40, 14) => "dinov2-vitg14",
            _ => "dinov2",
        }
    }

    /// Name and shape of every weight.
    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let (width, hidden) = (self.width, self.hidden);
        let positions = 1 + self.learnt_side * self.learnt_side;
        let mut specs = vec![
            ParameterSpec::new("cls_token", &[1, 1, width]),
            ParameterSpec::new("pos_embed", &[1, positions, width]),
            ParameterSpec::new("patch_embed.proj.weight", &[width, RGB, self.patch, self.patch]),
            ParameterSpec::new("patch_embed.proj.bias", &[width]),
        ];
        for block in 0..self.depth {
            let mut add = |name: &str, shape: &[i64]| {
                specs.push(ParameterSpec::new(format!("blocks.{block}.{name}"), shape));
            };
            let mut linear = |name: &str, outputs: i64, inputs: i64| {
                add(&format!("{name}.weight"), &[outputs, inputs]);
                add(&format!("{name}.bias"), &[outputs]);
            };
            linear("attn.qkv", 3 * width, width);
            linear("attn.proj", width, width);
            match self.feed_forward {
                FeedForward::Mlp => {
                    linear("mlp.fc1", hidden, width);
                    linear("mlp.fc2", width, hidden);
                }
                FeedForward::SwiGlu => {
                    linear("mlp.w12", 2 * hidden, width);
                    linear("mlp.w3", width, hidden);
                }
            }
            for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"] {
                add(name, &[width]);
            }
        }
        specs.extend(["weight", "bias"].map(|part| ParameterSpec::new(format!("norm.{part}"), &[width])));
        specs
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shapes(specs: &[ParameterSpec]) -> BTreeMap<&str, Vec<i64>> {
        specs.iter().map(|spec| (spec.name.as_str(), spec.shape.clone())).collect()
    }

    #[test]
    fn every_published_size_is_told_by_its_tensors() {
        let mlp = |width, depth| (width, depth, FeedForward::Mlp, 4 * width);
        // Parameters as published, of which one token a network, the mask's, is not read.
        for ((width, depth, feed_forward, hidden), name, published) in [
            (mlp(384, 12), "dinov2-vits14", 22_056_576),
            (mlp(768, 12), "dinov2-vitb14", 86_580_480),
            (mlp(1024, 24), "dinov2-vitl14", 304_368_640),
            ((1536, 40, FeedForward::SwiGlu, 4096), "dinov2-vitg14", 1_136_480_768),
        ] {
            let layout = Dinov2Layout { width, depth, feed_forward, hidden, patch: 14, learnt_side: 37 };
            let specs = layout.specs();
            assert_eq!(Dinov2Layout::of(&shapes(&specs)).unwrap(), layout);
            assert_eq!(layout.name(), name);
            assert_eq!(specs.iter().map(ParameterSpec::elements).sum::<i64>(), published - width, "{name}");
        }
    }

    #[test]
    fn tensors_of_another_network_are_refused_with_what_came() {
        let other = [ParameterSpec::new("conv1.weight", &[64, 3, 7, 7]), ParameterSpec::new("fc.bias", &[10])];
        let error = Dinov2Layout::of(&shapes(&other)).unwrap_err().to_string();
        assert!(
            error.contains("the weights of dinov2") && error.contains("2 tensors (conv1.weight, fc.bias"),
            "{error}"
        );
        let layout = Dinov2Layout {
            width: 128,
            depth: 1,
            feed_forward: FeedForward::Mlp,
            hidden: 512,
            patch: 14,
            learnt_side: 5,
        };
        let mut specs = layout.specs();
        specs[1] = ParameterSpec::new("pos_embed", &[1, 25, 128]);
        let error = Dinov2Layout::of(&shapes(&specs)).unwrap_err().to_string();
        assert!(error.contains("25 positions"), "{error}");
    }
}
