//! The optimiser: AdamW (Loshchilov and Hutter, arXiv 1711.05101), the moving average of the weights and their bf16 copy in
//! one pass over flat buffers, and the norm of the gradient that clips it.
//!
//! For every parameter, with the gradient `g` scaled and clipped and the bias corrections of step t:
//!
//! ```text
//! p <- p - lr weight_decay p
//! m <- m + (1 - beta1) (g - m)                 v <- beta2 v + (1 - beta2) g^2
//! p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//! ema <- ema + (1 - ema_decay) (p - ema)
//! ```

pub mod reference;

mod constants;
mod cpu;
mod cuda;
mod params;
mod shape;

pub use constants::Constants;

use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

/// What a step reads.
#[derive(Clone, Copy, Debug)]
pub struct AdamWEma<'a> {
    /// `[parameter]`.
    pub gradients: TensorView<'a>,
    /// How far gradients may go; None clips nothing.
    pub clip: Option<Clip<'a>>,
    /// What of [`Self::constants`] changes from step to step, [`Constants::schedule`], `[3]` and f32: in memory, so that a
    /// captured CUDA graph can be launched again with other numbers. None takes it from the constants.
    pub schedule: Option<TensorView<'a>>,
    /// The step's numbers.
    pub constants: Constants,
}

/// The limit of the gradient's norm: gradients are multiplied by `min(1, max_norm / (norm + 1e-6))`.
#[derive(Clone, Copy, Debug)]
pub struct Clip<'a> {
    /// What [`gradient_norm`] wrote, `[1]`, f32, on the device.
    pub norm: TensorView<'a>,
    /// Largest norm.
    pub max_norm: f64,
}

/// What a step changes in place: four f32 buffers, read and written, and the copy, which is written only.
#[derive(Debug)]
pub struct AdamWEmaState<'a> {
    /// `[parameter]`.
    pub parameters: TensorViewMut<'a>,
    /// Moving mean of the gradient, `[parameter]`.
    pub first_moment: TensorViewMut<'a>,
    /// Moving mean of the squared gradient, `[parameter]`.
    pub second_moment: TensorViewMut<'a>,
    /// Moving average of the parameters, `[parameter]`.
    pub ema: TensorViewMut<'a>,
    /// The new parameters rounded to bf16, `[parameter]`; None if not wanted.
    pub bf16_copy: Option<TensorViewMut<'a>>,
}

/// Writes the Euclidean norm of `scale` times the gradients, `[parameter]`, to `norm`, `[1]`, f32.
///
/// Squares are summed in f64, in an order that depends on the length alone. A gradient that is not finite gives a norm that
/// is not finite; nobody waits for the device.
///
/// # Errors
/// Any [`KernelError`] about shape, strides, dtype or device; nothing is written then. The CPU takes gradients in f32, a GPU in
/// f32 or bf16; [`KernelError::MissingKernels`] and [`KernelError::Cuda`] tell what went wrong there.
pub fn gradient_norm(
    queue: &Queue,
    gradients: &TensorView<'_>,
    scale: f64,
    mut norm: TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let length = shape::check(queue, shape::Call::Norm { gradients, norm: &norm })?;
    match *queue {
        Queue::Cpu => {
            cpu::gradient_norm(gradients, scale, &mut norm);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::gradient_norm((ordinal, stream), gradients, length, scale, &mut norm),
    }
}

/// Takes one step, in place.
///
/// On the CPU the result does not depend on threads or vector instructions, not in a bit.
///
/// # Errors
/// Any [`KernelError`] about shape, strides, dtype or device; nothing is written then. The CPU takes gradients in f32, a GPU in
/// f32 or bf16; the copy is bf16, everything else f32. [`KernelError::MissingKernels`] and [`KernelError::Cuda`] tell what went
/// wrong there.
pub fn step(queue: &Queue, inputs: &AdamWEma<'_>, mut state: AdamWEmaState<'_>) -> Result<(), KernelError> {
    let length = shape::check(queue, shape::Call::Step { inputs, state: &state })?;
    match *queue {
        Queue::Cpu => {
            cpu::step(inputs, &mut state);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::step((ordinal, stream), inputs, length, &mut state),
    }
}
