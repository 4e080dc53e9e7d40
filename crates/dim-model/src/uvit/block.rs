//! One block of a U-ViT: attention and feed-forward layer; in the second half a long skip first. Source: U-ViT, figure 2.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use crate::layers::{Attention, Branch, Form, Gelu, Join, Mlp, Norm, Stream};

/// Added to the variance in every layer norm.
pub(super) const NORM_EPS: f32 = 1e-5;

/// One block.
pub(crate) struct Block {
    skip_linear: Option<Join>,
    norm_1: Norm,
    attention: Attention,
    norm_2: Norm,
    mlp: Mlp,
}

impl Block {
    /// What leaves a block: the stream and the feed-forward layer's output.
    pub(super) const LEAVES: Form = Form { branch: true, gate: false, gate_offset: 0.0 };

    /// The block whose parameters start with `name`.
    pub(super) fn new(parameters: &Parameters, name: &str, heads: usize, skip: bool) -> Result<Self, TorchError> {
        let layer = |layer: &str| format!("{name}.{layer}");
        Ok(Self {
            skip_linear: skip.then(|| Join::one(parameters, &layer("skip_linear"))).transpose()?,
            norm_1: Norm::layer(parameters, &layer("norm1"), NORM_EPS)?,
            attention: Attention::new(parameters, &layer("attn"), heads, false)?,
            norm_2: Norm::layer(parameters, &layer("norm2"), NORM_EPS)?,
            mlp: Mlp::new(parameters, &layer("mlp"), Gelu::Exact)?,
        })
    }

    /// The linear map of stream and skip, side by side, that replaces the stream; a block without one keeps it.
    pub(super) fn join(&self, stream: Stream, skip: Option<Tensor>, kind: Kind) -> Result<Stream, TorchError> {
        match (&self.skip_linear, skip) {
            (Some(join), Some(skip)) => Ok(Stream::new(join.forward(&stream.settle(kind)?, &skip, kind)?)),
            _ => Ok(stream),
        }
    }

    /// Returns the stream that entered, f32 with everything added, and the one that leaves.
    pub(crate) fn forward(&self, stream: &Stream, kind: Kind) -> Result<(Tensor, Stream), TorchError> {
        let (entered, input) = self.norm_1.modulate(stream, None, kind)?;
        let attended = Branch::plain(self.attention.forward(&input, kind)?);
        let between = Stream { x: entered.shallow_clone(), branch: Some(attended) };
        let (x, input) = self.norm_2.modulate(&between, None, kind)?;
        Ok((entered, Stream { x, branch: Some(Branch::plain(self.mlp.forward(&input, kind)?)) }))
    }
}
