//! RMS norm. Source: Zhang & Sennrich 2019 (arXiv 1910.07467).

use dim_torch::{
    Parameters, TorchError,
    ops::{GatedBranch, Norm, NormModulateInputs, norm_modulate},
};
use tch::{Kind, Tensor};

const EPS: f32 = 1e-5;

/// `x / √(mean(x²) + 1e-5) · weight` over the last dimension, in f32.
pub(crate) struct RmsNorm {
    weight: Tensor,
}

impl RmsNorm {
    /// The norm whose parameter is `name.weight`.
    pub(crate) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        Ok(Self { weight: parameters.get(&format!("{name}.weight"))? })
    }

    /// `[…, d_model]` → the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), f64::from(EPS))?)
    }

    /// Adds the branch to the stream `x`, `[batch, token, d_model]` f32; returns the stream, and its norm times `1 + scale`, plus
    /// shift, in `kind`. Shift and scale: `[batch, d_model]`.
    pub(crate) fn modulate(
        &self,
        x: &Tensor,
        branch: Option<GatedBranch>,
        (shift, scale): (&Tensor, &Tensor),
        kind: Kind,
    ) -> Result<(Tensor, Tensor), TorchError> {
        let inputs = NormModulateInputs {
            x,
            branch,
            norm: Norm::Rms { eps: EPS },
            weight: Some(&self.weight),
            bias: None,
            scale: Some(scale),
            shift: Some(shift),
        };
        norm_modulate(&inputs, kind)
    }
}
