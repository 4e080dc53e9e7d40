//! Self-attention over all pixels of an image. Source: Dhariwal & Nichol 2021, section 3.

use dim_torch::{Parameters, TorchError};
use tch::Tensor;

use super::{convolution::Convolution, norm::GroupNorm};
use crate::Precision;

/// Norm, attention and a residual connection around both.
pub(super) struct Attention {
    norm: GroupNorm,
    qkv: Convolution,
    proj_out: Convolution,
    head_channels: i64,
}

impl Attention {
    /// The block whose parameters start with `name`, with heads of `head_channels`.
    pub(super) fn new(parameters: &Parameters, name: &str, head_channels: usize) -> Result<Self, TorchError> {
        Ok(Self {
            norm: GroupNorm::new(parameters, &format!("{name}.norm"))?,
            qkv: Convolution::new(parameters, &format!("{name}.qkv"))?,
            proj_out: Convolution::new(parameters, &format!("{name}.proj_out"))?,
            head_channels: i64::try_from(head_channels).unwrap_or(i64::MAX),
        })
    }

    /// `[batch, channel, row, column]` → the same.
    pub(super) fn forward(&self, x: &Tensor, precision: Precision) -> Result<Tensor, TorchError> {
        let size = x.size();
        let heads = size[1] / self.head_channels;
        let qkv = self.qkv.forward(&self.norm.forward(x)?, precision)?.to_kind(precision.kernel_kind());
        // The published order of channels: [head][query, key or value][channel of the head].
        let qkv = qkv.f_reshape([size[0], heads, 3, self.head_channels, size[2] * size[3]])?;
        let part = |index| qkv.f_select(2, index)?.f_transpose(-1, -2);
        let attended = Tensor::f_scaled_dot_product_attention(
            &part(0)?,
            &part(1)?,
            &part(2)?,
            None::<&Tensor>,
            0.0,
            false,
            None, // over the root of the head's channels: the published code gives half the root to queries and keys each
            false,
        )?;
        // [batch, head, pixel, channel] → [batch, channel, row, column], channels last in memory.
        let attended = attended.f_transpose(1, 2)?.f_reshape([size[0], size[2], size[3], size[1]])?;
        let attended = attended.f_permute([0, 3, 1, 2])?;
        Ok(x.f_add(&self.proj_out.forward(&attended, precision)?)?)
    }
}
