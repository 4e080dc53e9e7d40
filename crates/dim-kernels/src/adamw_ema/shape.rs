//! Every check of the optimiser's arguments; runs before any pointer is taken.

use super::{AdamWEma, AdamWEmaState};
use crate::check::Check;
use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{DType, Layout, TensorView, TensorViewMut};

/// The arguments of a call.
pub(super) enum Call<'a> {
    Norm { gradients: &'a TensorView<'a>, norm: &'a TensorViewMut<'a> },
    Step { inputs: &'a AdamWEma<'a>, state: &'a AdamWEmaState<'a> },
}

/// Checks a call and returns the number of parameters, which the gradients set.
pub(super) fn check(queue: &Queue, call: Call<'_>) -> Result<usize, KernelError> {
    let (op, gradients) = match call {
        Call::Norm { gradients, .. } => ("adamw_ema::gradient_norm", gradients),
        Call::Step { inputs, .. } => ("adamw_ema::step", &inputs.gradients),
    };
    let check = Check { op, queue };
    let [length] = check.sizes("gradients", &gradients.layout, "[parameter]")?;
    let flat = [("parameter", length)];
    check.input("gradients", &gradients.layout, &flat)?;
    if gradients.dtype() == DType::F16 {
        // A gradient of a loss that is not scaled falls below its smallest number.
        check.dtype("gradients", &gradients.layout, DType::F32, "f32 or bf16")?;
    }
    match call {
        Call::Norm { norm, .. } => output(&check, "norm", &norm.layout, &[("one", 1)])?,
        Call::Step { inputs, state } => {
            if let Some(clip) = &inputs.clip {
                input(&check, "clip.norm", &clip.norm.layout, &[("one", 1)])?;
            }
            if let Some(schedule) = &inputs.schedule {
                input(&check, "schedule", &schedule.layout, &[("constant", 3)])?;
            }
            output(&check, "parameters", &state.parameters.layout, &flat)?;
            output(&check, "first_moment", &state.first_moment.layout, &flat)?;
            output(&check, "second_moment", &state.second_moment.layout, &flat)?;
            output(&check, "ema", &state.ema.layout, &flat)?;
            if let Some(copy) = &state.bf16_copy {
                check.bf16_output("bf16_copy", &copy.layout, &flat)?;
            }
        }
    }
    Ok(length)
}

fn input(
    check: &Check<'_>,
    argument: &'static str,
    layout: &Layout,
    axes: &[(&'static str, usize)],
) -> Result<(), KernelError> {
    check.input(argument, layout, axes)?;
    check.f32(argument, layout)
}

fn output(
    check: &Check<'_>,
    argument: &'static str,
    layout: &Layout,
    axes: &[(&'static str, usize)],
) -> Result<(), KernelError> {
    check.output(argument, layout, axes)?;
    check.f32(argument, layout)
}
