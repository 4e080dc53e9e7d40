//! Group norm in f32. Source: Wu & He 2018 (arXiv 1803.08494); 32 groups and f32 as in the published `GroupNorm32`.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

/// Groups of channels with a mean and a variance each.
pub(super) const GROUPS: usize = 32;
const EPS: f64 = 1e-5;

/// Group norm with a scale and a shift a channel.
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
}

impl GroupNorm {
    /// The norm whose parameters are `name.weight` and `name.bias`.
    pub(super) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        Ok(Self { weight: parameters.get(&format!("{name}.weight"))?, bias: parameters.get(&format!("{name}.bias"))? })
    }

    /// `[batch, channel, row, column]` → the same, computed in f32 and returned in the input's type.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let normed =
            x.to_kind(Kind::Float).f_group_norm(GROUPS as i64, Some(&self.weight), Some(&self.bias), EPS, true)?;
        Ok(normed.to_kind(x.kind()))
    }
}
