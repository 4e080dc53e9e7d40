//! The optimiser on a GPU: kernels/adamw_ema.

use std::ffi::c_void;

use super::params::{AdamwEmaStep, GradientNorm};
use super::{AdamWEma, AdamWEmaState};
use crate::cuda::{self, Launch, Place, Stream, Workspace};
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

// As in kernels/adamw_ema/step.cuh.
const STEP_THREADS: u32 = 256;
const STEP_PARAMETERS: usize = 1024; // of a block

// As in kernels/adamw_ema/gradient_norm.cuh.
const NORM_THREADS: u32 = 256;
const NORM_CHUNK: usize = 16384;
const TOTAL_THREADS: u32 = 1024;

/// A length as kernels take it; no view is longer.
fn long(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

pub(super) fn gradient_norm(
    (ordinal, stream): (usize, *mut c_void),
    gradients: &TensorView<'_>,
    length: usize,
    scale: f64,
    norm: &mut TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("adamw_ema::gradient_norm", ordinal, stream)?;
    let chunks = length.div_ceil(NORM_CHUNK);
    let floats = chunks * (size_of::<f64>() / size_of::<f32>());
    let mut workspace = Workspace::new(&stream, &[floats])?;
    let mut params = GradientNorm {
        gradients: Place::of(gradients).pointer,
        partials: workspace.take(floats).cast(),
        norm: Place::of_mut(norm).pointer.cast(),
        length: long(length),
        scale: scale.abs(),
    };
    let source = "adamw_ema/gradient_norm";
    let kernel = format!("gradient_norm_{}", cuda::suffix(gradients.dtype()));
    let sums = Launch { source, kernel: &kernel, blocks: chunks, threads: NORM_THREADS, shared_bytes: 0 };
    let total = Launch { source, kernel: "gradient_norm_total", blocks: 1, threads: TOTAL_THREADS, shared_bytes: 0 };
    // SAFETY: both kernels take one `GradientNorm`, whose pointers are those of checked views and of a workspace with room
    // for one sum a chunk, aligned to 256 bytes. The first kernel fills it, the second reads it.
    unsafe {
        stream.launch(sums, &mut [(&raw mut params).cast()])?;
        stream.launch(total, &mut [(&raw mut params).cast()])
    }
}

pub(super) fn step(
    (ordinal, stream): (usize, *mut c_void),
    inputs: &AdamWEma<'_>,
    length: usize,
    state: &mut AdamWEmaState<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("adamw_ema::step", ordinal, stream)?;
    let scalars = inputs.constants.scalars();
    #[allow(clippy::cast_possible_truncation)] // rounded, as all constants are
    let max_norm = inputs.clip.map_or(0.0, |clip| clip.max_norm as f32);
    let mut params = AdamwEmaStep {
        parameters: Place::of_mut(&mut state.parameters).pointer.cast(),
        gradients: Place::of(&inputs.gradients).pointer,
        first_moment: Place::of_mut(&mut state.first_moment).pointer.cast(),
        second_moment: Place::of_mut(&mut state.second_moment).pointer.cast(),
        ema: Place::of_mut(&mut state.ema).pointer.cast(),
        copy: Place::of_optional_mut(state.bf16_copy.as_mut()).pointer,
        norm: Place::of_optional(inputs.clip.as_ref().map(|clip| &clip.norm)).pointer.cast(),
        schedule: Place::of_optional(inputs.schedule.as_ref()).pointer.cast(),
        length: long(length),
        step_size: scalars.step_size,
        decay: scalars.decay,
        root_correction: scalars.root_correction,
        first_rate: scalars.first_rate,
        second_decay: scalars.second_decay,
        second_rate: scalars.second_rate,
        eps: scalars.eps,
        ema_rate: scalars.ema_rate,
        gradient_scale: scalars.gradient_scale,
        max_norm,
    };
    let kernel = format!("adamw_ema_step_{}", cuda::suffix(inputs.gradients.dtype()));
    let blocks = length.div_ceil(STEP_PARAMETERS);
    let launch = Launch { source: "adamw_ema/step", kernel: &kernel, blocks, threads: STEP_THREADS, shared_bytes: 0 };
    // SAFETY: the kernel takes one `AdamwEmaStep`, whose pointers are null where it may be, or those of checked views.
    unsafe { stream.launch(launch, &mut [(&raw mut params).cast()]) }
}
