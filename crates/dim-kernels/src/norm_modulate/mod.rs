//! What stands between the wide products of a block, in one pass: the gated residual, the norm and the modulation.
//!
//! ```text
//! r   = x + (gate_offset + gate) y
//! out = (norm(r) weight + bias) (1 + scale) + shift
//! ```
//!
//! with the RMS norm (Zhang and Sennrich, arXiv 1910.07467) or the layer norm (Ba et al., arXiv 1607.06450), and the adaptive
//! modulation of Peebles and Xie (arXiv 2212.09748, section 3.2). Whatever is absent drops out. The stream, `x` and `r`, is
//! f32 whatever the activations `y` and `out` are, though an `x` that has just come out of a product may be of their dtype; `out` is
//! rounded once.

pub mod reference;

mod cpu;
mod cuda;
mod params;
mod shape;

use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

/// What the stream is divided by before the modulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// Nothing: the stream itself is modulated.
    None,
    /// `√(mean(r²) + eps)`.
    Rms {
        /// Added to the mean square.
        eps: f32,
    },
    /// `√(variance(r) + eps)`, after the mean was taken off.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
}

/// What is added to the stream.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// The branch's output, `[batch, token, channel]`.
    pub y: TensorView<'a>,
    /// `[batch, channel]`; none multiplies `y` with 1, whatever the offset.
    pub gate: Option<TensorView<'a>>,
    /// Added to the gate.
    pub gate_offset: f32,
}

/// The inputs beside the stream.
#[derive(Clone, Copy, Debug)]
pub struct NormModulate<'a> {
    /// What is added to the stream first.
    pub branch: Option<Branch<'a>>,
    /// The norm.
    pub norm: Norm,
    /// `[channel]`; none counts as ones.
    pub weight: Option<TensorView<'a>>,
    /// `[channel]`; none counts as zeros.
    pub bias: Option<TensorView<'a>>,
    /// `[batch, channel]`; none counts as zeros.
    pub scale: Option<TensorView<'a>>,
    /// `[batch, channel]`; none counts as zeros.
    pub shift: Option<TensorView<'a>>,
}

/// Where [`forward`] puts its results; None if not wanted.
#[derive(Debug)]
pub struct NormModulateOutputs<'a> {
    /// The stream with the branch added, `[batch, token, channel]`.
    pub r: Option<TensorViewMut<'a>>,
    /// The normed and modulated stream, `[batch, token, channel]`.
    pub out: Option<TensorViewMut<'a>>,
    /// Of each token of `r`, the mean that the norm takes off (0 for the RMS norm) and the inverse of what it divides by,
    /// `[batch, token, 2]`. Written with `out` only.
    pub statistics: Option<TensorViewMut<'a>>,
}

/// What [`backward`] needs of the forward pass beside its inputs.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The stream with the branch added: `x` itself where there is no branch.
    pub r: TensorView<'a>,
    /// [`NormModulateOutputs::statistics`]; none without a norm.
    pub statistics: Option<TensorView<'a>>,
}

/// Where [`backward`] puts the gradients: each has its input's shape and is overwritten, not added to; None if not wanted.
#[derive(Debug)]
pub struct NormModulateGradients<'a> {
    /// Gradient of the stream, of `x` and of `r` alike, `[batch, token, channel]`.
    pub x: Option<TensorViewMut<'a>>,
    /// Gradient of the branch's output, `[batch, token, channel]`.
    pub y: Option<TensorViewMut<'a>>,
    /// `[batch, channel]`.
    pub gate: Option<TensorViewMut<'a>>,
    /// `[channel]`.
    pub weight: Option<TensorViewMut<'a>>,
    /// `[channel]`.
    pub bias: Option<TensorViewMut<'a>>,
    /// `[batch, channel]`.
    pub scale: Option<TensorViewMut<'a>>,
    /// `[batch, channel]`.
    pub shift: Option<TensorViewMut<'a>>,
}

/// Adds the branch to the stream `x`, `[batch, token, channel]`, then norms and modulates it.
///
/// # Errors
/// Any [`KernelError`] about shape, strides, dtype or device; nothing is written then. The CPU takes f32. A GPU takes `y`, `out`
/// and their gradients in f32, f16 or bf16, all in one, `x` in that or in f32, everything else in f32;
/// [`KernelError::MissingKernels`] and [`KernelError::Cuda`] tell what went wrong there.
pub fn forward(
    queue: &Queue,
    op: &NormModulate<'_>,
    x: &TensorView<'_>,
    mut outputs: NormModulateOutputs<'_>,
) -> Result<(), KernelError> {
    let sizes = shape::check(queue, op, shape::Call::Forward { x, outputs: &outputs })?;
    match *queue {
        Queue::Cpu => {
            cpu::forward(op, sizes, x, &mut outputs);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::forward((ordinal, stream), op, sizes, x, &mut outputs),
    }
}

/// Writes the gradients of a loss, given its gradient by `out` and, from those who read the stream later, by `r`; either
/// counts as zeros if it is absent.
///
/// Without a norm, `r` is read only for the gradients of `weight` and `scale`. `r`, its gradient and that of `x` may each be f32 or as
/// the activations.
///
/// # Errors
/// As [`forward`], and [`KernelError::Absent`] for the statistics of a norm through which a gradient comes.
pub fn backward(
    queue: &Queue,
    op: &NormModulate<'_>,
    kept: &Kept<'_>,
    grad_out: Option<&TensorView<'_>>,
    grad_r: Option<&TensorView<'_>>,
    mut gradients: NormModulateGradients<'_>,
) -> Result<(), KernelError> {
    let upstream = Upstream { r: &kept.r, statistics: kept.statistics.as_ref(), grad_out, grad_r };
    let sizes = shape::check(queue, op, shape::Call::Backward { upstream: &upstream, gradients: &gradients })?;
    match *queue {
        Queue::Cpu => {
            cpu::backward(op, sizes, &upstream, &mut gradients);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::backward((ordinal, stream), op, sizes, &upstream, &mut gradients),
    }
}

/// What a backward pass is given beside the inputs.
struct Upstream<'a> {
    r: &'a TensorView<'a>,
    statistics: Option<&'a TensorView<'a>>,
    grad_out: Option<&'a TensorView<'a>>,
    grad_r: Option<&'a TensorView<'a>>,
}
