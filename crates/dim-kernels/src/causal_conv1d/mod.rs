//! The causal depthwise convolution in front of the selective scan (Gu and Dao, arXiv 2312.00752, section 3.4), with SiLU.
//!
//! For every channel and along the tokens, with zeros before the first one:
//!
//! ```text
//! y_l = bias + sum over k of weight[k] x_{l - (width - 1) + k}        out_l = silu(y_l), or y_l
//! ```

pub mod reference;

mod cpu;
mod cuda;
mod params;
mod shape;

use crate::device::Queue;
use crate::error::KernelError;
use crate::token_map::TokenMap;
use crate::view::{TensorView, TensorViewMut};

/// The inputs of a causal depthwise convolution.
#[derive(Clone, Copy, Debug)]
pub struct CausalConv1d<'a> {
    /// Input, `[batch, token, channel]`.
    pub x: TensorView<'a>,
    /// One filter a channel, `[channel, width]`; the last tap is the present token's.
    pub weight: TensorView<'a>,
    /// `[channel]`; none counts as zero.
    pub bias: Option<TensorView<'a>>,
    /// Whether the result goes through SiLU.
    pub silu: bool,
    /// The order in which the tokens are walked; none walks them as stored.
    pub token_map: Option<&'a TokenMap>,
}

/// Where [`backward`] puts the gradients: each has its input's shape and is overwritten, not added to.
#[derive(Debug)]
pub struct CausalConv1dGradients<'a> {
    /// Gradient of `x`, `[batch, token, channel]`.
    pub x: TensorViewMut<'a>,
    /// Gradient of `weight`, `[channel, width]`.
    pub weight: TensorViewMut<'a>,
    /// Gradient of `bias`, `[channel]`; None if not wanted.
    pub bias: Option<TensorViewMut<'a>>,
}

/// Runs the convolution: writes `out`, `[batch, token, channel]`.
///
/// On a GPU, `x` and `out` are read and written four channels at a time if the number of channels and all strides are multiples of
/// four and the first elements lie at multiples of four elements' size; otherwise one channel at a time, a tenth slower.
///
/// # Errors
/// Any [`KernelError`] about shape, strides, dtype or device; nothing is written then. The CPU takes f32. A GPU takes `x`, the result
/// and their gradients in f32, f16 or bf16, all in one, everything else in f32, and filters of 2 to 8 taps;
/// [`KernelError::MissingKernels`] and [`KernelError::Cuda`] tell what went wrong there.
pub fn forward(queue: &Queue, conv: &CausalConv1d<'_>, mut out: TensorViewMut<'_>) -> Result<(), KernelError> {
    let sizes = shape::check(queue, conv, shape::Call::Forward { out: &out })?;
    match *queue {
        Queue::Cpu => {
            cpu::forward(conv, sizes, &mut out);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::forward((ordinal, stream), conv, sizes, &mut out),
    }
}

/// Writes the gradients of a loss, given its gradient by `out`, `[batch, token, channel]`.
///
/// Nothing of the forward pass need be kept: the value before SiLU is recomputed. On a GPU, where [`forward`] would take one channel
/// at a time on account of `x` or of a gradient of its shape, this takes 1.6 times as long.
///
/// # Errors
/// Any [`KernelError`] about shape, strides, dtype or device; nothing is written then. The CPU takes f32. A GPU takes `x`, the result
/// and their gradients in f32, f16 or bf16, all in one, everything else in f32, and filters of 2 to 8 taps;
/// [`KernelError::MissingKernels`] and [`KernelError::Cuda`] tell what went wrong there.
pub fn backward(
    queue: &Queue,
    conv: &CausalConv1d<'_>,
    grad_out: &TensorView<'_>,
    mut gradients: CausalConv1dGradients<'_>,
) -> Result<(), KernelError> {
    let sizes = shape::check(queue, conv, shape::Call::Backward { grad_out, gradients: &gradients })?;
    match *queue {
        Queue::Cpu => {
            cpu::backward(conv, sizes, grad_out, &mut gradients);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::backward((ordinal, stream), conv, sizes, grad_out, &mut gradients),
    }
}
