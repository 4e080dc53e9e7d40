//! A scan in two steps, for a sequence whose beginning others have: what its segments do to the states that they start from, and then, with the
//! true first state, its output. For its backward pass the same from the end: what its outputs alone bring to the gradient by its first state.
//!
//! A segment makes `exp(A Δ) h + own` of the state h that it starts from, with Δ the sum of its step sizes and `own` what it makes of
//! zeros. On a GPU these are the segments that [`super::forward`] cuts long sequences into, so that the two steps together walk no more than it does.

use super::{SelectiveScan, cpu, cuda, shape};
use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

/// How many segments [`walk`] cuts each sequence of the scan into.
///
/// # Errors
/// As [`walk`].
pub fn segments(queue: &Queue, scan: &SelectiveScan<'_>) -> Result<usize, KernelError> {
    Ok(shape::segments(queue, shape::check(queue, scan, shape::Call::Segments)?))
}

/// Walks every segment: writes the state after it, `[batch · segment, channel, state]`, that of a sequence's first segment from `initial_state` on
/// and those of all others from zeros, and the sum of its step sizes, `[batch · segment, channel]`; both contiguous and f32.
///
/// # Errors
/// As [`super::forward`]; on a GPU also for sequences of fewer than nine tokens.
pub fn walk(
    queue: &Queue,
    scan: &SelectiveScan<'_>,
    mut states: TensorViewMut<'_>,
    mut deltas: TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let sizes = shape::check(queue, scan, shape::Call::Walk { states: &states, deltas: &deltas })?;
    match *queue {
        Queue::Cpu => {
            cpu::walk(scan, sizes, &mut states, &mut deltas);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => cuda::walk((ordinal, stream), scan, sizes, &mut states, &mut deltas),
    }
}

/// Walks every segment from its end: writes the gradient by the state before it that its own outputs bring, `[batch · segment, channel, state]`, given the
/// loss's by `out`, `[batch, token, channel]`, and the sum of its step sizes, `[batch · segment, channel]`; both contiguous and f32. The gradient by the state
/// after a segment adds to that `exp(A Δ)` times itself.
///
/// # Errors
/// As [`walk`].
pub fn walk_back(
    queue: &Queue,
    scan: &SelectiveScan<'_>,
    grad_out: &TensorView<'_>,
    mut grad_states: TensorViewMut<'_>,
    mut deltas: TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let call = shape::Call::WalkBack { grad_out, grad_states: &grad_states, deltas: &deltas };
    let sizes = shape::check(queue, scan, call)?;
    match *queue {
        Queue::Cpu => {
            cpu::walk_back(scan, sizes, grad_out, &mut grad_states, &mut deltas);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => {
            cuda::walk_back((ordinal, stream), scan, sizes, grad_out, &mut grad_states, &mut deltas)
        }
    }
}

/// Writes the scan's output, `[batch, token, channel]`. `states` and `deltas` are what [`walk`] wrote of this scan, where the first segments'
/// states hold also what `initial_state` becomes in them; `states` is of no use afterwards.
///
/// # Errors
/// As [`walk`].
pub fn forward_after_walk(
    queue: &Queue,
    scan: &SelectiveScan<'_>,
    mut states: TensorViewMut<'_>,
    deltas: &TensorView<'_>,
    mut out: TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let call = shape::Call::AfterWalk { out: &out, states: &states, deltas };
    let sizes = shape::check(queue, scan, call)?;
    match *queue {
        Queue::Cpu => {
            // The only segment starts from `initial_state`.
            cpu::forward(scan, sizes, &mut out, None);
            Ok(())
        }
        Queue::Cuda { ordinal, stream } => {
            cuda::forward_after_walk((ordinal, stream), scan, sizes, &mut states, deltas, &mut out)
        }
    }
}
