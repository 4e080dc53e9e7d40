//! The scan on a GPU: kernels/selective_scan.

mod walked;

use std::ffi::c_void;

use super::params::{SelectiveScanBackward, SelectiveScanForward, SelectiveScanInputs, SelectiveScanWorkspace};
use super::shape::Sizes;
use super::{SelectiveScan, SelectiveScanGradients};
use crate::cuda::{self, Launch, Place, Stream, Sum, Workspace, size, sum_partials};
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

pub(super) use walked::{LEAST_WALKED_TOKENS, forward_after_walk, segments, walk, walk_back};

/// The numbers of states that there are kernels for.
pub(super) const STATES: [usize; 4] = [8, 16, 32, 64];

// As in kernels/selective_scan/layout.cuh.
const THREADS: usize = 128;
const WARP: usize = 32;
const MAX_HELD: usize = 16;
const CHUNK: usize = 8;

// Blocks that keep a card busy, for 132 multiprocessors. Numbers and not the card's own, so that how sums are split, and with it
// their last bits, is the same on every card.
/// Blocks of the backward kernel: three for each multiprocessor.
const BACKWARD_BLOCKS: usize = 384;
/// Blocks of the forward kernels where a sequence is split: as many as run at once.
const FORWARD_BLOCKS: usize = 528;
/// Blocks with which a sequence need not be split. With two for each multiprocessor the narrower kernel, or the two walks of a split
/// sequence, take longer.
const UNSPLIT_BLOCKS: usize = 264;

/// From so many tokens on a sequence is split among blocks.
const LEAST_SPLIT_TOKENS: usize = 1024;
/// Below that, so many blocks of the narrower kernel take less time than if the warps of a block shared a sequence, which walk all but
/// its last segment twice: at 366 tokens 29 µs for 96 blocks and hardly more for more, against 26 and 0.24 for each further one.
const LEAST_NARROW_BLOCKS: usize = 108;

/// Warps of a block that share a sequence: `kSegmentWarps` in kernels/selective_scan/forward_by_warps.cuh.
const SEGMENT_WARPS: usize = 8;

/// How a kernel shares its work among blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    /// Groups of channels of a sequence.
    groups: usize,
    /// Segments of a sequence.
    segments: usize,
    /// Tokens of every segment but the last.
    segment_tokens: usize,
    batch: usize,
}

impl Grid {
    /// Whole sequences.
    fn unsplit(sizes: Sizes, channels_of_a_block: usize) -> Self {
        Self::split(sizes, channels_of_a_block, 0)
    }

    /// As many segments as make `blocks`, or hardly more.
    fn split(sizes: Sizes, channels_of_a_block: usize, blocks: usize) -> Self {
        let Sizes { batch, token, channel, .. } = sizes;
        let groups = channel.div_ceil(channels_of_a_block);
        let wanted = blocks.div_ceil((batch * groups).max(1)).max(1);
        let segment_tokens = token.div_ceil(wanted).next_multiple_of(CHUNK).max(CHUNK);
        Self { groups, segments: token.div_ceil(segment_tokens).max(1), segment_tokens, batch }
    }

    /// The same segments for another number of channels a block.
    fn with_channels(self, channel: usize, channels_of_a_block: usize) -> Self {
        Self { groups: channel.div_ceil(channels_of_a_block), ..self }
    }

    fn blocks(self) -> usize {
        self.batch * self.segments * self.groups
    }

    fn launch<'a>(self, source: &'a str, kernel: &'a str) -> Launch<'a> {
        Launch { source, kernel, blocks: self.blocks(), threads: THREADS as u32, shared_bytes: 0 }
    }
}

/// Channels of a block where a thread holds up to 16 states of one: `Wide` in kernels/selective_scan/layout.cuh.
fn wide_channels(state: usize) -> usize {
    THREADS / state.div_ceil(MAX_HELD)
}

/// Channels of a block where four threads share one: `Narrow`.
const NARROW_CHANNELS: usize = THREADS / 4;

/// Channels of a block whose warps share sequences: `Shared`.
const SHARED_CHANNELS: usize = NARROW_CHANNELS / 4;

/// Channels of a block of the backward kernel: `Paired`.
fn paired_channels(state: usize) -> usize {
    if state <= 32 { 2 * THREADS / (state / 4) } else { THREADS / 8 }
}

/// The kernels of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forward {
    /// One thread a channel, as far as 16 states go.
    Wide,
    /// Four threads a channel.
    Narrow,
    /// The same, and the warps of a block take the segments of a sequence.
    ByWarps,
}

/// The forward pass: one thread a channel where that fills a card, else four, else the sequence in segments.
fn forward_grid(sizes: Sizes) -> (Grid, Forward) {
    let wide = Grid::unsplit(sizes, wide_channels(sizes.state));
    let narrow = Grid::unsplit(sizes, NARROW_CHANNELS);
    let fills = |grid: Grid| grid.blocks() >= UNSPLIT_BLOCKS;
    if fills(wide) {
        return (wide, Forward::Wide);
    }
    let short = sizes.token < LEAST_SPLIT_TOKENS;
    if sizes.state == MAX_HELD && (fills(narrow) || short && narrow.blocks() >= LEAST_NARROW_BLOCKS) {
        return (narrow, Forward::Narrow);
    }
    if short {
        let by_warps = Grid::unsplit(sizes, SHARED_CHANNELS);
        return if sizes.state == MAX_HELD { (by_warps, Forward::ByWarps) } else { (wide, Forward::Wide) };
    }
    // Rounded down: a block more than run at once would wait for all the others.
    let segments = (FORWARD_BLOCKS / wide.blocks().max(1)).max(1);
    (Grid::split(sizes, wide_channels(sizes.state), segments * wide.blocks()), Forward::Wide)
}

fn inputs(stream: &Stream, scan: &SelectiveScan<'_>, sizes: Sizes) -> Result<SelectiveScanInputs, KernelError> {
    let [u, delta, a, b, c] = [&scan.u, &scan.delta, &scan.a, &scan.b, &scan.c].map(Place::of);
    let [d, z, delta_bias, initial_state] =
        [&scan.d, &scan.z, &scan.delta_bias, &scan.initial_state].map(|view| Place::of_optional(view.as_ref()));
    Ok(SelectiveScanInputs {
        u: u.pointer,
        delta: delta.pointer,
        a: a.pointer.cast(),
        b: b.pointer,
        c: c.pointer,
        d: d.pointer.cast(),
        z: z.pointer,
        delta_bias: delta_bias.pointer.cast(),
        initial_state: initial_state.pointer.cast(),
        token_map: scan.token_map.map_or(Ok(std::ptr::null()), |map| map.on_device(stream))?,
        u_batch_stride: u.batch_stride(),
        u_token_stride: u.row_stride(),
        delta_batch_stride: delta.batch_stride(),
        delta_token_stride: delta.row_stride(),
        a_channel_stride: a.row_stride(),
        b_batch_stride: b.batch_stride(),
        b_token_stride: b.row_stride(),
        c_batch_stride: c.batch_stride(),
        c_token_stride: c.row_stride(),
        z_batch_stride: z.batch_stride(),
        z_token_stride: z.row_stride(),
        initial_state_batch_stride: initial_state.batch_stride(),
        initial_state_channel_stride: initial_state.row_stride(),
        batch: size(sizes.batch),
        token: size(sizes.token),
        channel: size(sizes.channel),
        state: size(sizes.state),
        delta_softplus: scan.delta_softplus.into(),
    })
}

/// Device memory that a call needs for itself, by the lengths that `lengths` gives for each field, in order.
fn workspace(memory: &mut Workspace<'_>, grid: Grid, lengths: [usize; 10]) -> SelectiveScanWorkspace {
    let [
        chunk_states,
        chunk_deltas,
        segment_deltas,
        segment_states,
        segment_gradients,
        partial_b,
        partial_c,
        partial_a,
        partial_d,
        partial_delta_bias,
    ] = lengths.map(|length| memory.take(length));
    SelectiveScanWorkspace {
        chunk_states,
        chunk_deltas,
        segment_deltas,
        segment_states,
        segment_gradients,
        partial_b,
        partial_c,
        partial_a,
        partial_d,
        partial_delta_bias,
        segments: size(grid.segments),
        segment_tokens: size(grid.segment_tokens),
    }
}

/// Lengths of the workspace's fields: those of the segments, and in a backward pass of all.
fn lengths(sizes: Sizes, grid: Grid, backward: bool) -> [usize; 10] {
    let Sizes { batch, token, channel, state } = sizes;
    let split = usize::from(grid.segments > 1);
    let backward = usize::from(backward);
    let chunks = batch * token.div_ceil(CHUNK) * channel;
    let segments = batch * grid.segments * channel;
    let matrix = grid.groups * batch * token * state;
    [
        backward * chunks * state,
        backward * split * chunks,
        split * segments,
        split * segments * state,
        backward * split * segments * state,
        backward * matrix,
        backward * matrix,
        backward * segments * state,
        backward * segments,
        backward * segments,
    ]
}

/// Walks the segments for what each brings to the others, and to keep the states before every chunk.
///
/// # Safety
/// `params` and `workspace` must be of these sizes and this grid, as for the kernels that follow.
unsafe fn walk_segments(
    stream: &Stream,
    dtype: &str,
    sizes: Sizes,
    grid: Grid,
    params: &mut SelectiveScanBackward,
    workspace: &mut SelectiveScanWorkspace,
) -> Result<(), KernelError> {
    // SAFETY: the caller's.
    unsafe {
        states_of_segments(stream, dtype, sizes, grid, params, workspace)?;
        if grid.segments > 1 { join_segments(stream, sizes, &mut params.inputs, workspace) } else { Ok(()) }
    }
}

/// Walks every segment from zeros.
///
/// # Safety
/// As for [`walk_segments`].
unsafe fn states_of_segments(
    stream: &Stream,
    dtype: &str,
    sizes: Sizes,
    grid: Grid,
    params: &mut SelectiveScanBackward,
    workspace: &mut SelectiveScanWorkspace,
) -> Result<(), KernelError> {
    let grid = grid.with_channels(sizes.channel, wide_channels(sizes.state));
    let source = format!("selective_scan/states_{dtype}");
    let kernel = format!("selective_scan_states_{dtype}_n{}", sizes.state);
    // A second half of the grid walks the segments backwards.
    let both = !workspace.segment_gradients.is_null();
    let launch = Launch { blocks: grid.blocks() * if both { 2 } else { 1 }, ..grid.launch(&source, &kernel) };
    // SAFETY: the kernel takes the two structs; the caller vouches for what they point to.
    unsafe { stream.launch(launch, &mut [(&raw mut *params).cast(), (&raw mut *workspace).cast()]) }
}

/// Replaces what every segment makes of zeros by what it starts from.
///
/// # Safety
/// As for [`walk_segments`]; the states of the segments are known.
unsafe fn join_segments(
    stream: &Stream,
    sizes: Sizes,
    inputs: &mut SelectiveScanInputs,
    workspace: &mut SelectiveScanWorkspace,
) -> Result<(), KernelError> {
    let kernel = format!("selective_scan_join_n{}", sizes.state);
    let launch = Launch {
        source: "selective_scan/join",
        kernel: &kernel,
        blocks: (sizes.batch * sizes.channel * sizes.state).div_ceil(THREADS),
        threads: THREADS as u32,
        shared_bytes: 0,
    };
    // SAFETY: the kernel takes the inputs and the workspace, which the kernel before has filled.
    unsafe { stream.launch(launch, &mut [(&raw mut *inputs).cast(), (&raw mut *workspace).cast()]) }
}

/// The parameters of the forward kernels.
fn forward_params(
    inputs: SelectiveScanInputs,
    out: &mut TensorViewMut<'_>,
    last_state: Option<&mut TensorViewMut<'_>>,
) -> SelectiveScanForward {
    let (out, last_state) = (Place::of_mut(out), Place::of_optional_mut(last_state));
    SelectiveScanForward {
        inputs,
        out: out.pointer,
        last_state: last_state.pointer.cast(),
        out_batch_stride: out.batch_stride(),
        out_token_stride: out.row_stride(),
        last_state_batch_stride: last_state.batch_stride(),
        last_state_channel_stride: last_state.row_stride(),
    }
}

pub(super) fn forward(
    (ordinal, stream): (usize, *mut c_void),
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    out: &mut TensorViewMut<'_>,
    last_state: Option<&mut TensorViewMut<'_>>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("selective_scan::forward", ordinal, stream)?;
    let inputs = inputs(&stream, scan, sizes)?;
    let mut params = forward_params(inputs, out, last_state);
    let (grid, variant) = forward_grid(sizes);
    let lengths = lengths(sizes, grid, false);
    let mut memory = Workspace::new(&stream, &lengths)?;
    let mut workspace = workspace(&mut memory, grid, lengths);
    let dtype = cuda::suffix(scan.u.dtype());
    if grid.segments > 1 {
        let mut walk = states_params(inputs);
        // SAFETY: every pointer is that of a checked view of these sizes, or of a buffer of the length that the kernels use.
        unsafe { walk_segments(&stream, dtype, sizes, grid, &mut walk, &mut workspace)? };
    }
    let source = format!("selective_scan/fwd_{dtype}");
    let name = match variant {
        Forward::Wide => "",
        Forward::Narrow => "narrow_",
        Forward::ByWarps => "by_warps_",
    };
    let kernel = format!("selective_scan_fwd_{name}{dtype}_n{}", sizes.state);
    let mut launch = grid.launch(&source, &kernel);
    let mut arguments = vec![(&raw mut params).cast(), (&raw mut workspace).cast()];
    if variant == Forward::ByWarps {
        launch.threads = size(SEGMENT_WARPS * WARP);
        arguments.truncate(1);
    }
    // SAFETY: the kernels take the two structs, that by warps the first alone; every pointer is that of a checked view of these
    // sizes, or of a buffer that the kernels before have filled.
    unsafe { stream.launch(launch, &mut arguments) }
}

pub(super) fn backward(
    (ordinal, stream): (usize, *mut c_void),
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    grad_out: &TensorView<'_>,
    grad_last_state: Option<&TensorView<'_>>,
    gradients: &mut SelectiveScanGradients<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("selective_scan::backward", ordinal, stream)?;
    let mut params = backward_params(inputs(&stream, scan, sizes)?, grad_out, grad_last_state, gradients);
    let grid = Grid::split(sizes, paired_channels(sizes.state), BACKWARD_BLOCKS);
    let lengths = lengths(sizes, grid, true);
    let mut memory = Workspace::new(&stream, &lengths)?;
    let mut workspace = workspace(&mut memory, grid, lengths);

    let dtype = scan.u.dtype();
    let suffix = cuda::suffix(dtype);
    let source = format!("selective_scan/bwd_{suffix}");
    let kernel = format!("selective_scan_bwd_{suffix}_n{}", sizes.state);
    // SAFETY: the kernels take a `SelectiveScanBackward` and the workspace; every pointer is that of a checked view of these
    // sizes, or of a buffer of the length that the kernels use.
    unsafe {
        walk_segments(&stream, suffix, sizes, grid, &mut params, &mut workspace)?;
        stream.launch(grid.launch(&source, &kernel), &mut [(&raw mut params).cast(), (&raw mut workspace).cast()])?;
    }
    let SelectiveScanWorkspace { partial_b, partial_c, partial_a, partial_d, partial_delta_bias, .. } = workspace;
    let segments = sizes.batch * grid.segments;
    let mut sums = vec![
        Sum::new(partial_b, grid.groups, &mut gradients.b),
        Sum::new(partial_c, grid.groups, &mut gradients.c),
        Sum::new(partial_a, segments, &mut gradients.a),
    ];
    sums.extend(gradients.d.as_mut().map(|d| Sum::new(partial_d, segments, d)));
    sums.extend(gradients.delta_bias.as_mut().map(|bias| Sum::new(partial_delta_bias, segments, bias)));
    // SAFETY: the kernels before on the stream have written all of the buffers.
    unsafe { sum_partials(&stream, dtype, &sums) }
}

/// The sums over channels or batch are written by `sum_partials`, so the kernels get no pointer to them.
fn backward_params(
    inputs: SelectiveScanInputs,
    grad_out: &TensorView<'_>,
    grad_last_state: Option<&TensorView<'_>>,
    gradients: &mut SelectiveScanGradients<'_>,
) -> SelectiveScanBackward {
    let (grad_out, grad_last_state) = (Place::of(grad_out), Place::of_optional(grad_last_state));
    let (grad_u, grad_delta) = (Place::of_mut(&mut gradients.u), Place::of_mut(&mut gradients.delta));
    let grad_z = Place::of_optional_mut(gradients.z.as_mut());
    let grad_initial_state = Place::of_optional_mut(gradients.initial_state.as_mut());
    SelectiveScanBackward {
        inputs,
        grad_out: grad_out.pointer,
        grad_last_state: grad_last_state.pointer.cast(),
        grad_u: grad_u.pointer,
        grad_delta: grad_delta.pointer,
        grad_z: grad_z.pointer,
        grad_initial_state: grad_initial_state.pointer.cast(),
        grad_out_batch_stride: grad_out.batch_stride(),
        grad_out_token_stride: grad_out.row_stride(),
        grad_last_state_batch_stride: grad_last_state.batch_stride(),
        grad_last_state_channel_stride: grad_last_state.row_stride(),
        grad_u_batch_stride: grad_u.batch_stride(),
        grad_u_token_stride: grad_u.row_stride(),
        grad_delta_batch_stride: grad_delta.batch_stride(),
        grad_delta_token_stride: grad_delta.row_stride(),
        grad_z_batch_stride: grad_z.batch_stride(),
        grad_z_token_stride: grad_z.row_stride(),
        grad_initial_state_batch_stride: grad_initial_state.batch_stride(),
        grad_initial_state_channel_stride: grad_initial_state.row_stride(),
    }
}

/// The parameters of a walk for the states alone: no gradients.
fn states_params(inputs: SelectiveScanInputs) -> SelectiveScanBackward {
    let (none, none_mut) = (std::ptr::null(), std::ptr::null_mut());
    SelectiveScanBackward {
        inputs,
        grad_out: none,
        grad_last_state: std::ptr::null(),
        grad_u: none_mut,
        grad_delta: none_mut,
        grad_z: none_mut,
        grad_initial_state: std::ptr::null_mut(),
        grad_out_batch_stride: 0,
        grad_out_token_stride: 0,
        grad_last_state_batch_stride: 0,
        grad_last_state_channel_stride: 0,
        grad_u_batch_stride: 0,
        grad_u_token_stride: 0,
        grad_delta_batch_stride: 0,
        grad_delta_token_stride: 0,
        grad_z_batch_stride: 0,
        grad_z_token_stride: 0,
        grad_initial_state_batch_stride: 0,
        grad_initial_state_channel_stride: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(batch: usize, token: usize) -> Sizes {
        Sizes { batch, token, channel: 3072, state: 16 }
    }

    #[test]
    fn segments_cover_the_sequence_without_an_empty_one() {
        for token in [0, 1, 7, 8, 9, 366, 1230, 4494, 17166] {
            for channel in [1, 64, 1000, 3072] {
                let sizes = Sizes { batch: 1, token, channel, state: 16 };
                let grid = Grid::split(sizes, 64, BACKWARD_BLOCKS);
                assert!(grid.segment_tokens.is_multiple_of(CHUNK) && grid.segments >= 1);
                assert!(grid.segments * grid.segment_tokens >= token, "{grid:?}");
                assert!(token == 0 || (grid.segments - 1) * grid.segment_tokens < token, "{grid:?}");
            }
        }
    }

    #[test]
    fn a_full_card_walks_whole_sequences() {
        for (batch, token) in [(192, 366), (56, 1230), (16, 4494), (12, 4494)] {
            let (grid, variant) = forward_grid(sizes(batch, token));
            assert!(variant == Forward::Wide && grid.segments == 1, "{batch} x {token}: {grid:?}");
        }
        for batch in [3, 4] {
            assert!(matches!(forward_grid(sizes(batch, 17166)), (Grid { segments: 1, .. }, Forward::Narrow)));
        }
    }

    #[test]
    fn a_single_long_sequence_is_split_into_as_many_segments_as_run_at_once() {
        let (grid, variant) = forward_grid(sizes(1, 4494));
        assert!(variant == Forward::Wide && grid.segments == 22 && grid.blocks() <= FORWARD_BLOCKS, "{grid:?}");
    }

    #[test]
    fn warps_share_a_single_short_sequence() {
        let (grid, variant) = forward_grid(sizes(1, 366));
        assert!(variant == Forward::ByWarps && grid.segments == 1 && grid.blocks() == 3072 / 8, "{grid:?}");
        assert!(matches!(forward_grid(sizes(2, 366)), (Grid { segments: 1, .. }, Forward::Narrow)));
    }
}
