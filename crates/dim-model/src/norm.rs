//! RMS norm. Source: Zhang & Sennrich 2019 (arXiv 1910.07467).

use dim_torch::{Parameters, TorchError};
use tch::Tensor;

const EPS: f64 = 1e-5;

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
        Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), EPS)?)
    }
}
