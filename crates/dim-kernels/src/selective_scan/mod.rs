//! The selective scan of Mamba (Gu and Dao, arXiv 2312.00752, section 3.2 and algorithm 2).
//!
//! With `delta' = softplus(delta + delta_bias)` (or without softplus, or bias), for every channel and along the tokens:
//!
//! ```text
//! h_l = exp(delta'_l A) h_{l-1} + delta'_l B_l u_l        (elementwise over the states)
//! y_l = sum over states of C_l h_l  +  D u_l
//! out_l = y_l silu(z_l)
//! ```
//!
//! A's step is the exact exponential, B's the plain Euler factor, as in the authors' code. Softplus is the identity above 20.

pub mod reference;

mod cpu;
mod cuda;
mod params;
mod segments;
mod shape;

pub use segments::{forward_after_walk, segments, walk, walk_back};

use crate::device::Queue;
use crate::error::KernelError;
use crate::token_map::TokenMap;
use crate::view::{TensorView, TensorViewMut};

/// The inputs of a selective scan.
#[derive(Clone, Copy, Debug)]
pub struct SelectiveScan<'a> {
    /// Scan input, `[batch, token, channel]`.
    pub u: TensorView<'a>,
    /// Step size before bias and softplus, `[batch, token, channel]`.
    pub delta: TensorView<'a>,
    /// The state matrix A itself (negative; the caller applied `-exp(a_log)`), `[channel, state]`.
    pub a: TensorView<'a>,
    /// Input matrix B, shared by the channels, `[batch, token, state]`.
    pub b: TensorView<'a>,
    /// Output matrix C, shared by the channels, `[batch, token, state]`.
    pub c: TensorView<'a>,
    /// Skip D, `[channel]`; none counts as zero.
    pub d: Option<TensorView<'a>>,
    /// Gate, `[batch, token, channel]`; none leaves the output ungated.
    pub z: Option<TensorView<'a>>,
    /// Added to `delta` before softplus, `[channel]`.
    pub delta_bias: Option<TensorView<'a>>,
    /// Whether the step size goes through softplus.
    pub delta_softplus: bool,
    /// State before the first step, `[batch, channel, state]`; none counts as zero.
    pub initial_state: Option<TensorView<'a>>,
    /// The order in which the tokens are walked; none walks them as stored.
    pub token_map: Option<&'a TokenMap>,
}

/// Where [`backward`] puts the gradients: each has its input's shape and is overwritten, not added to.
///
/// A gradient that is None is not wanted.
#[derive(Debug)]
pub struct SelectiveScanGradients<'a> {
    /// Gradient of `u`, `[batch, token, channel]`.
    pub u: TensorViewMut<'a>,
    /// Gradient of the raw `delta`, `[batch, token, channel]`.
    pub delta: TensorViewMut<'a>,
    /// Gradient of `a`, `[channel, state]`.
    pub a: TensorViewMut<'a>,
    /// Gradient of `b`, `[batch, token, state]`.
    pub b: TensorViewMut<'a>,
    /// Gradient of `c`, `[batch, token, state]`.
    pub c: TensorViewMut<'a>,
    /// Gradient of `d`, `[channel]`.
    pub d: Option<TensorViewMut<'a>>,
    /// Gradient of `z`, `[batch, token, channel]`.
    pub z: Option<TensorViewMut<'a>>,
    /// Gradient of `delta_bias`, `[channel]`.
    pub delta_bias: Option<TensorViewMut<'a>>,
    /// Gradient of `initial_state`, `[batch, channel, state]`.
    pub initial_state: Option<TensorViewMut<'a>>,
}

/// Runs the scan: writes `out`, `[batch, token, channel]`, and the state after the last step, `[batch, channel, state]`, if wanted.
///
/// # Errors
/// Any [`KernelError`] about shape, strides, dtype or device; nothing is written then. The CPU takes f32. A GPU takes `u`, `delta`,
/// `b`, `c`, `z` and their gradients in f32, f16 or bf16, all in one, everything else in f32, and 8, 16, 32 or 64 states;
/// [`KernelError::MissingKernels`] and [`KernelError::Cuda`] tell what went wrong there.
pub fn forward(
    queue: &Queue,
    scan: &SelectiveScan<'_>,
    mut out: TensorViewMut<'_>,
    mut last_state: Option<TensorViewMut<'_>>,
) -> Result<(), KernelError> {
    let sizes = shape::check(queue, scan, shape::Call::Forward { out: &out, last_state: last_state.as_ref() })?;
    match *queue {
        Queue::Cpu => {
            cpu::forward(scan, sizes, &mut out, last_state.as_mut());
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::forward((ordinal, stream), scan, sizes, &mut out, last_state.as_mut()),
    }
}

/// Writes the gradients of a loss, given its gradient by `out`, `[batch, token, channel]`, and, if the last state
/// was used, by the last state, `[batch, channel, state]`.
///
/// Nothing of the forward pass need be kept: states are recomputed chunk by chunk.
///
/// # Errors
/// Any [`KernelError`] about shape, strides, dtype or device; nothing is written then. The CPU takes f32. A GPU takes `u`, `delta`,
/// `b`, `c`, `z` and their gradients in f32, f16 or bf16, all in one, everything else in f32, and 8, 16, 32 or 64 states;
/// [`KernelError::MissingKernels`] and [`KernelError::Cuda`] tell what went wrong there.
pub fn backward(
    queue: &Queue,
    scan: &SelectiveScan<'_>,
    grad_out: &TensorView<'_>,
    grad_last_state: Option<&TensorView<'_>>,
    mut gradients: SelectiveScanGradients<'_>,
) -> Result<(), KernelError> {
    let sizes = shape::check(queue, scan, shape::Call::Backward { grad_out, grad_last_state, gradients: &gradients })?;
    match *queue {
        Queue::Cpu => {
            cpu::backward(scan, sizes, grad_out, grad_last_state, &mut gradients);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => {
            cuda::backward((ordinal, stream), scan, sizes, grad_out, grad_last_state, &mut gradients)
        }
    }
}
