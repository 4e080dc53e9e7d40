//! Norms of the residual stream, with what stands around them. Sources: RMS norm: Zhang & Sennrich 2019 (arXiv 1910.07467);
//! layer norm: Ba et al. 2016 (arXiv 1607.06450); modulation: Peebles & Xie 2022 (arXiv 2212.09748).

use dim_torch::{
    Parameters, TorchError,
    ops::{self, GatedBranch, NormModulateInputs, gated_residual, norm_modulate},
};
use tch::{Device, Kind, Tensor};

use super::stream::{Branch, Stream};

/// Shift and scale, `[batch, d_model]` f32 each.
pub(crate) type Modulation<'a> = (&'a Tensor, &'a Tensor);

/// A norm over the last dimension, in f32.
pub(crate) struct Norm {
    formula: ops::Norm,
    width: i64,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
}

impl Norm {
    /// `x / √(mean(x²) + 1e-5) · weight`, the weight being the parameter `name.weight`.
    pub(crate) fn rms(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        let weight = parameters.get(&format!("{name}.weight"))?;
        Ok(Self { formula: ops::Norm::Rms { eps: 1e-5 }, width: weight.size()[0], weight: Some(weight), bias: None })
    }

    /// `(x − mean(x)) / √(variance(x) + eps) · weight + bias`, the parameters being `name.weight` and `name.bias`.
    pub(crate) fn layer(parameters: &Parameters, name: &str, eps: f32) -> Result<Self, TorchError> {
        let weight = parameters.get(&format!("{name}.weight"))?;
        let bias = parameters.get(&format!("{name}.bias"))?;
        let formula = ops::Norm::Layer { eps };
        Ok(Self { formula, width: weight.size()[0], weight: Some(weight), bias: Some(bias) })
    }

    /// A layer norm without parameters.
    pub(crate) fn plain_layer(width: i64, eps: f32) -> Self {
        Self { formula: ops::Norm::Layer { eps }, width, weight: None, bias: None }
    }

    /// `[…, d_model]` → the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let (width, weight, bias) = ([self.width], self.weight.as_ref(), self.bias.as_ref());
        Ok(match self.formula {
            ops::Norm::Rms { eps } => x.f_rms_norm(width, weight, f64::from(eps))?,
            ops::Norm::Layer { eps } => x.f_layer_norm(width, weight, bias, f64::from(eps), true)?,
            ops::Norm::None => x.shallow_clone(),
        })
    }

    /// Adds what the stream has still to add; returns the stream, `[batch, token, d_model]` f32, and its norm times
    /// `1 + scale`, plus shift, in `kind`.
    pub(crate) fn modulate(
        &self,
        stream: &Stream,
        modulation: Option<Modulation>,
        kind: Kind,
    ) -> Result<(Tensor, Tensor), TorchError> {
        let branch = stream.branch.as_ref().map(Branch::gated);
        if rounds_as_published(&stream.x, kind) {
            let stream = add_branch(&stream.x, branch.as_ref())?;
            let mut normed = self.forward(&stream)?;
            if let Some((shift, scale)) = modulation {
                normed = normed.f_mul(&(scale.f_unsqueeze(1)? + 1.0))?.f_add(&shift.f_unsqueeze(1)?)?;
            }
            return Ok((stream, normed.to_kind(kind)));
        }
        let inputs = NormModulateInputs {
            x: &stream.x,
            branch,
            norm: self.formula,
            weight: self.weight.as_ref(),
            bias: self.bias.as_ref(),
            scale: modulation.map(|(_, scale)| scale),
            shift: modulation.map(|(shift, _)| shift),
        };
        norm_modulate(&inputs, kind)
    }
}

/// Whether the operations run one after the other, with the roundings of the published results: in f32, whose golden tensors
/// full-size networks meet by little, and on the CPU.
pub(super) fn rounds_as_published(x: &Tensor, kind: Kind) -> bool {
    kind == Kind::Float || x.device() == Device::Cpu
}

/// The stream `x` with the gated branch added, in `kind`.
pub(super) fn settle(x: &Tensor, branch: &GatedBranch, kind: Kind) -> Result<Tensor, TorchError> {
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
        Some(gate) if branch.gate_offset == 0.0 => gate.f_unsqueeze(1)?.f_mul(&y)?,
        Some(gate) => (gate.f_unsqueeze(1)? + f64::from(branch.gate_offset)).f_mul(&y)?,
        None => y,
    };
    Ok(gated.f_add(x)?)
}
