//! RMS norm. Source: Zhang & Sennrich 2019 (arXiv 1910.07467).

use dim_torch::{
    Parameters, TorchError,
    ops::{GatedBranch, Norm, NormModulateInputs, gated_residual, norm_modulate},
};
use tch::{Device, Kind, Tensor};

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
        if rounds_as_published(x, kind) {
            let stream = add_branch(x, branch.as_ref())?;
            let modulated =
                self.forward(&stream)?.f_mul(&(scale.f_unsqueeze(1)? + 1.0))?.f_add(&shift.f_unsqueeze(1)?)?;
            return Ok((stream, modulated.to_kind(kind)));
        }
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

/// Whether the operations run one after the other, with the roundings of the published results: in f32, whose golden tensors
/// full-size networks meet by little, and on the CPU.
fn rounds_as_published(x: &Tensor, kind: Kind) -> bool {
    kind == Kind::Float || x.device() == Device::Cpu
}

/// The stream `x`, f32, with the gated branch added, in `kind`.
pub(crate) fn settle(x: &Tensor, branch: &GatedBranch, kind: Kind) -> Result<Tensor, TorchError> {
    if rounds_as_published(x, kind) {
        return Ok(add_branch(x, Some(branch))?.to_kind(kind));
    }
    gated_residual(x, branch, kind)
}

/// The stream with the branch added, by libtorch's operations.
fn add_branch(x: &Tensor, branch: Option<&GatedBranch>) -> Result<Tensor, TorchError> {
    let Some(branch) = branch else { return Ok(x.shallow_clone()) };
    let y = branch.y.to_kind(Kind::Float);
    let gated = match branch.gate {
        Some(gate) => (gate.f_unsqueeze(1)? + f64::from(branch.gate_offset)).f_mul(&y)?,
        None => y,
    };
    Ok(gated.f_add(x)?)
}
