//! A scan in two steps, by the kernels that [`super::forward`] launches for a sequence that it splits.

use std::ffi::c_void;

use super::{
    CHUNK, FORWARD_BLOCKS, Grid, forward_params, inputs, join_segments, states_of_segments, states_params,
    wide_channels,
};
use crate::cuda::{self, Place, Stream, Workspace, size};
use crate::error::KernelError;
use crate::selective_scan::SelectiveScan;
use crate::selective_scan::params::{SelectiveScanBackward, SelectiveScanWorkspace};
use crate::selective_scan::shape::Sizes;
use crate::view::{TensorView, TensorViewMut};

/// The fewest tokens of which [`walk`] makes segments: one segment alone keeps nothing.
pub(in crate::selective_scan) const LEAST_WALKED_TOKENS: usize = CHUNK + 1;

/// How a sequence is walked whose first state is not known yet: in segments, however well it fills the card.
fn walked_grid(sizes: Sizes) -> Grid {
    let wide = Grid::unsplit(sizes, wide_channels(sizes.state));
    let segments = (FORWARD_BLOCKS / wide.blocks().max(1)).max(2);
    Grid::split(sizes, wide_channels(sizes.state), segments * wide.blocks())
}

/// Segments of each sequence that [`walk`] walks.
pub(in crate::selective_scan) fn segments(sizes: Sizes) -> usize {
    walked_grid(sizes).segments
}

/// What is known of segments, as the kernels take it.
fn known_segments(grid: Grid, states: *mut f32, deltas: *mut f32) -> SelectiveScanWorkspace {
    let none = std::ptr::null_mut();
    SelectiveScanWorkspace {
        chunk_states: none,
        chunk_deltas: none,
        segment_deltas: deltas,
        segment_states: states,
        segment_gradients: none,
        partial_b: none,
        partial_c: none,
        partial_a: none,
        partial_d: none,
        partial_delta_bias: none,
        segments: size(grid.segments),
        segment_tokens: size(grid.segment_tokens),
    }
}

pub(in crate::selective_scan) fn walk(
    (ordinal, stream): (usize, *mut c_void),
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    states: &mut TensorViewMut<'_>,
    deltas: &mut TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("selective_scan::walk", ordinal, stream)?;
    let grid = walked_grid(sizes);
    let mut params = states_params(inputs(&stream, scan, sizes)?);
    let mut workspace = known_segments(grid, states.as_mut_ptr().cast(), deltas.as_mut_ptr().cast());
    let dtype = cuda::suffix(scan.u.dtype());
    // SAFETY: every pointer is that of a checked view of these sizes, those of the segments without gaps.
    unsafe { states_of_segments(&stream, dtype, sizes, grid, &mut params, &mut workspace) }
}

pub(in crate::selective_scan) fn walk_back(
    (ordinal, stream): (usize, *mut c_void),
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    grad_out: &TensorView<'_>,
    grad_states: &mut TensorViewMut<'_>,
    deltas: &mut TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("selective_scan::walk_back", ordinal, stream)?;
    let grid = walked_grid(sizes);
    let grad_out = Place::of(grad_out);
    let mut params = SelectiveScanBackward {
        grad_out: grad_out.pointer,
        grad_out_batch_stride: grad_out.batch_stride(),
        grad_out_token_stride: grad_out.row_stride(),
        ..states_params(inputs(&stream, scan, sizes)?)
    };
    // The kernel walks both ways, as a backward pass needs it; the states are of no use here.
    let length = sizes.batch * grid.segments * sizes.channel * sizes.state;
    let mut memory = Workspace::new(&stream, &[length])?;
    let mut workspace = SelectiveScanWorkspace {
        segment_gradients: grad_states.as_mut_ptr().cast(),
        ..known_segments(grid, memory.take(length), deltas.as_mut_ptr().cast())
    };
    let dtype = cuda::suffix(scan.u.dtype());
    // SAFETY: as in `walk`; the states have a buffer of their own.
    unsafe { states_of_segments(&stream, dtype, sizes, grid, &mut params, &mut workspace) }
}

pub(in crate::selective_scan) fn forward_after_walk(
    (ordinal, stream): (usize, *mut c_void),
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    states: &mut TensorViewMut<'_>,
    deltas: &TensorView<'_>,
    out: &mut TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("selective_scan::forward_after_walk", ordinal, stream)?;
    let grid = walked_grid(sizes);
    let mut params = forward_params(inputs(&stream, scan, sizes)?, out, None);
    // The kernels read the sums and do not write them.
    let mut workspace = known_segments(grid, states.as_mut_ptr().cast(), deltas.as_ptr().cast_mut().cast());
    let dtype = cuda::suffix(scan.u.dtype());
    let source = format!("selective_scan/fwd_{dtype}");
    let kernel = format!("selective_scan_fwd_{dtype}_n{}", sizes.state);
    // SAFETY: as in `walk`, which has filled what is known of the segments.
    unsafe {
        join_segments(&stream, sizes, &mut params.inputs, &mut workspace)?;
        stream.launch(grid.launch(&source, &kernel), &mut [(&raw mut params).cast(), (&raw mut workspace).cast()])
    }
}
