//! Gated residual, norm and modulation as one differentiable operation. Source: Peebles & Xie 2022 (arXiv 2212.09748),
//! section 3.2.

use dim_kernels::norm_modulate::{self as kernel, Kept, NormModulate, NormModulateGradients, NormModulateOutputs};
use tch::{Kind, Tensor};

use super::with_contiguous_channels;
use crate::{
    TorchError,
    bridge::{queue, view, view_mut},
    custom_function::{CustomFunction, Forward, apply},
};

pub use dim_kernels::norm_modulate::Norm;

const NAME: &str = "norm_modulate";

/// What is added to the stream: `(gate_offset + gate) y`, or `y`.
#[derive(Clone, Copy)]
pub struct GatedBranch<'a> {
    /// `[batch, token, channel]`.
    pub y: &'a Tensor,
    /// `[batch, channel]`, f32.
    pub gate: Option<&'a Tensor>,
    /// Added to the gate.
    pub gate_offset: f32,
}

/// The tensors of a norm with modulation. `weight`, `bias`: `[channel]`; `scale`, `shift`: `[batch, channel]`; all f32.
#[derive(Clone, Copy)]
pub struct NormModulateInputs<'a> {
    /// The stream, `[batch, token, channel]`, f32.
    pub x: &'a Tensor,
    /// What is added to the stream first.
    pub branch: Option<GatedBranch<'a>>,
    /// The norm.
    pub norm: Norm,
    /// Multiplied with the normed stream.
    pub weight: Option<&'a Tensor>,
    /// Added to that.
    pub bias: Option<&'a Tensor>,
    /// What comes of it is multiplied with `1 + scale`.
    pub scale: Option<&'a Tensor>,
    /// Added last.
    pub shift: Option<&'a Tensor>,
}

/// The stream r with the branch added, f32, and `(norm(r) weight + bias) (1 + scale) + shift` in `kind`, that of the
/// branch's `y`; both `[batch, token, channel]`.
///
/// Later readers of the stream should take the r returned here, also where there is no branch: their gradient is then
/// added where the norm's is made.
///
/// # Errors
/// A shape, type or device that the kernel does not take, named in the error.
pub fn norm_modulate(inputs: &NormModulateInputs, kind: Kind) -> Result<(Tensor, Tensor), TorchError> {
    let branch = inputs.branch.as_ref();
    let optional = [
        branch.map(|branch| branch.y),
        branch.and_then(|branch| branch.gate),
        inputs.weight,
        inputs.bias,
        inputs.scale,
        inputs.shift,
    ];
    let operation = Operation {
        has: optional.map(|tensor| tensor.is_some()),
        gate_offset: branch.map_or(0.0, |branch| branch.gate_offset),
        norm: inputs.norm,
        results: Results::Both(kind),
    };
    let mut outputs = operation.apply(inputs.x, optional)?;
    match (outputs.next(), outputs.next()) {
        (Some(r), Some(out)) => Ok((r, out)),
        _ => Err(TorchError::Libtorch("the norm returned no output".to_owned())),
    }
}

/// The stream `x`, `[batch, token, channel]` f32, with the branch added, in `kind`: f32, or the kind of the branch's `y`.
///
/// # Errors
/// A shape, type or device that the kernel does not take, named in the error.
pub fn gated_residual(x: &Tensor, branch: &GatedBranch, kind: Kind) -> Result<Tensor, TorchError> {
    let optional = [Some(branch.y), branch.gate, None, None, None, None];
    let operation = Operation {
        has: optional.map(|tensor| tensor.is_some()),
        gate_offset: branch.gate_offset,
        norm: Norm::None,
        results: if kind == Kind::Float { Results::Stream } else { Results::Rounded(kind) },
    };
    let r = operation.apply(x, optional)?.next();
    r.ok_or_else(|| TorchError::Libtorch("the residual returned no output".to_owned()))
}

/// What an operation returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Results {
    /// The stream, and the modulated stream in this kind.
    Both(Kind),
    /// The stream.
    Stream,
    /// The stream in this kind.
    Rounded(Kind),
}

/// What the node remembers besides tensors. The inputs come as a list without holes: the stream, then y, gate, weight, bias,
/// scale and shift, if present.
struct Operation {
    has: [bool; 6],
    gate_offset: f32,
    norm: Norm,
    results: Results,
}

impl Operation {
    fn apply(
        self,
        x: &Tensor,
        optional: [Option<&Tensor>; 6],
    ) -> Result<impl Iterator<Item = Tensor> + use<>, TorchError> {
        let tensors: Vec<Tensor> =
            std::iter::once(x).chain(optional.into_iter().flatten()).map(with_contiguous_channels).collect();
        Ok(apply(self, &tensors.iter().collect::<Vec<_>>())?.into_iter())
    }

    /// The list of inputs as a kernel's argument.
    fn kernel<'a>(&self, tensors: &'a [Tensor]) -> Result<NormModulate<'a>, TorchError> {
        let mut rest = tensors[1..].iter();
        let mut next = |index: usize, argument| {
            let tensor = if self.has[index] { rest.next() } else { None };
            tensor.map(|tensor| view(NAME, argument, tensor)).transpose()
        };
        let (y, gate) = (next(0, "y")?, next(1, "gate")?);
        Ok(NormModulate {
            branch: y.map(|y| kernel::Branch { y, gate, gate_offset: self.gate_offset }),
            norm: self.norm,
            weight: next(2, "weight")?,
            bias: next(3, "bias")?,
            scale: next(4, "scale")?,
            shift: next(5, "shift")?,
        })
    }
}

impl CustomFunction for Operation {
    const NAME: &'static str = NAME;

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let x = &inputs[0];
        let empty = |kind| Tensor::f_empty(x.size(), (kind, x.device()));
        let has_branch = self.has[0];
        let mut r = match self.results {
            Results::Both(_) | Results::Stream if has_branch => Some(empty(Kind::Float)?),
            _ => None,
        };
        let mut out = match self.results {
            Results::Both(kind) | Results::Rounded(kind) => Some(empty(kind)?),
            Results::Stream => None,
        };
        // A norm's gradients need them: 8 bytes a token.
        let of_token: Vec<i64> = x.size().into_iter().take(2).chain([2]).collect();
        let mut statistics =
            (self.norm != Norm::None).then(|| Tensor::f_empty(of_token, (Kind::Float, x.device()))).transpose()?;
        let outputs = NormModulateOutputs {
            r: r.as_mut().map(|tensor| view_mut(NAME, "r", tensor)).transpose()?,
            out: out.as_mut().map(|tensor| view_mut(NAME, "out", tensor)).transpose()?,
            statistics: statistics.as_mut().map(|tensor| view_mut(NAME, "statistics", tensor)).transpose()?,
        };
        kernel::forward(&queue(x)?, &self.kernel(inputs)?, &view(NAME, "x", x)?, outputs)?;

        let mut saved: Vec<Tensor> = inputs.iter().map(Tensor::shallow_clone).collect();
        if let Results::Both(_) = self.results {
            // Backward needs the stream with the branch added; without a branch that is the input itself.
            let r = r.get_or_insert_with(|| x.shallow_clone());
            saved[0] = r.shallow_clone();
        }
        saved.extend(statistics);
        Ok(Forward { outputs: r.into_iter().chain(out).collect(), saved })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        // Behind the inputs.
        let (saved, statistics) = saved.split_at(needs_gradient.len());
        let gradient = |index: usize| grad_outputs.get(index).and_then(Option::as_ref).map(with_contiguous_channels);
        let (grad_r, grad_out) = match self.results {
            Results::Both(_) => (gradient(0), gradient(1)),
            Results::Stream => (gradient(0), None),
            Results::Rounded(_) => (None, gradient(0)),
        };
        if grad_r.is_none() && grad_out.is_none() {
            return Ok(saved.iter().map(|_| None).collect());
        }
        // The gradient of the stream alone passes through.
        let passes = grad_r.as_ref().filter(|_| grad_out.is_none());
        let mut gradients = saved
            .iter()
            .zip(needs_gradient)
            .enumerate()
            .map(|(index, (input, &needed))| {
                let written = needed && !(index == 0 && passes.is_some());
                written.then(|| Tensor::f_empty(input.size(), (input.kind(), input.device()))).transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut rest = gradients.iter_mut();
        let mut next = |present: bool, argument| {
            let tensor = if present { rest.next() } else { None };
            tensor.and_then(Option::as_mut).map(|tensor| view_mut(NAME, argument, tensor)).transpose()
        };
        let views = NormModulateGradients {
            x: next(true, "grad x")?,
            y: next(self.has[0], "grad y")?,
            gate: next(self.has[1], "grad gate")?,
            weight: next(self.has[2], "grad weight")?,
            bias: next(self.has[3], "grad bias")?,
            scale: next(self.has[4], "grad scale")?,
            shift: next(self.has[5], "grad shift")?,
        };
        let grad_out = grad_out.as_ref().map(|tensor| view(NAME, "grad_out", tensor)).transpose()?;
        let later = grad_r.as_ref().map(|tensor| view(NAME, "grad_r", tensor)).transpose()?;
        let kept = Kept {
            r: view(NAME, "r", &saved[0])?,
            statistics: statistics.first().map(|tensor| view(NAME, "statistics", tensor)).transpose()?,
        };
        kernel::backward(&queue(&saved[0])?, &self.kernel(saved)?, &kept, grad_out.as_ref(), later.as_ref(), views)?;
        if let Some(grad_r) = passes.filter(|_| needs_gradient[0]) {
            gradients[0] = Some(grad_r.shallow_clone());
        }
        Ok(gradients)
    }
}
