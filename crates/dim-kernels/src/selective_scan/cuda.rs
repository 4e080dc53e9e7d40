//! The scan on a GPU: kernels/selective_scan.

use std::ffi::c_void;

use super::params::{SelectiveScanBackward, SelectiveScanForward, SelectiveScanInputs};
use super::shape::Sizes;
use super::{SelectiveScan, SelectiveScanGradients};
use crate::cuda::{self, Launch, Place, Stream, Workspace, sum_partials};
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

/// The numbers of states that there are kernels for.
pub(super) const STATES: [usize; 4] = [8, 16, 32, 64];

// As in kernels/selective_scan/scan.cuh.
const THREADS: u32 = 128;
const MAX_STATES: usize = 16;
const CHUNK: usize = 8;
const WARPS: usize = 4;

/// Device memory of a backward pass, as in kernels/selective_scan/workspace.h.
#[repr(C)]
struct Buffers {
    chunk_states: *mut f32,
    partial_b: *mut f32,
    partial_c: *mut f32,
    partial_a: *mut f32,
    partial_d: *mut f32,
    partial_delta_bias: *mut f32,
}

impl Sizes {
    /// Groups of channels of a sequence: a block each.
    fn groups(&self) -> usize {
        let threads_of_a_channel = self.state.div_ceil(MAX_STATES);
        self.channel.div_ceil(THREADS as usize / threads_of_a_channel)
    }

    /// The kernels' launch; `stage` is a part of their names.
    fn launch<'a>(&self, source: &'a str, kernel: &'a str) -> Launch<'a> {
        Launch { source, kernel, blocks: self.batch * self.groups(), threads: THREADS, shared_bytes: 0 }
    }

    /// Shared memory of a block of the backward kernel: `BackwardShared` in kernels/selective_scan/backward.cuh.
    fn backward_shared_bytes(&self) -> u32 {
        let matrices = 2 * CHUNK * self.state;
        let partials = WARPS * CHUNK * 2 * self.state;
        let before = CHUNK * self.state.min(MAX_STATES) * THREADS as usize;
        u32::try_from((matrices + partials + before) * size_of::<f32>()).unwrap_or(u32::MAX)
    }

    /// Lengths of the parts of [`Buffers`], in order.
    fn buffers(&self) -> [usize; 6] {
        let Self { batch, token, channel, state } = *self;
        let matrix = self.groups() * batch * token * state;
        let vector = batch * channel;
        [batch * token.div_ceil(CHUNK) * state * channel, matrix, matrix, vector * state, vector, vector]
    }
}

/// A size as kernels take it; the checks have refused what does not fit.
fn size(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
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

pub(super) fn forward(
    (ordinal, stream): (usize, *mut c_void),
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    out: &mut TensorViewMut<'_>,
    last_state: Option<&mut TensorViewMut<'_>>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("selective_scan::forward", ordinal, stream)?;
    let (out, last_state) = (Place::of_mut(out), Place::of_optional_mut(last_state));
    let mut params = SelectiveScanForward {
        inputs: inputs(&stream, scan, sizes)?,
        out: out.pointer,
        last_state: last_state.pointer.cast(),
        out_batch_stride: out.batch_stride(),
        out_token_stride: out.row_stride(),
        last_state_batch_stride: last_state.batch_stride(),
        last_state_channel_stride: last_state.row_stride(),
    };
    let dtype = cuda::suffix(scan.u.dtype());
    let source = format!("selective_scan/fwd_{dtype}");
    let kernel = format!("selective_scan_fwd_{dtype}_n{}", sizes.state);
    // SAFETY: the kernel takes one `SelectiveScanForward`, and every pointer is that of a checked view of these sizes.
    unsafe { stream.launch(sizes.launch(&source, &kernel), &mut [(&raw mut params).cast()]) }
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
    let lengths = sizes.buffers();
    let mut workspace = Workspace::new(&stream, &lengths)?;
    let [chunk_states, partial_b, partial_c, partial_a, partial_d, partial_delta_bias] =
        lengths.map(|length| workspace.take(length));
    let mut buffers = Buffers { chunk_states, partial_b, partial_c, partial_a, partial_d, partial_delta_bias };

    let dtype = cuda::suffix(scan.u.dtype());
    let source = format!("selective_scan/bwd_{dtype}");
    let states = format!("selective_scan_states_{dtype}_n{}", sizes.state);
    let backward = format!("selective_scan_bwd_{dtype}_n{}", sizes.state);
    let arguments = &mut [(&raw mut params).cast(), (&raw mut buffers).cast()];
    // SAFETY: both kernels take a `SelectiveScanBackward` and the workspace's buffers; every pointer is that of a checked
    // view of these sizes, or of a buffer of the length that the kernels use.
    unsafe {
        stream.launch(sizes.launch(&source, &states), arguments)?;
        let shared_bytes = sizes.backward_shared_bytes();
        stream.launch(Launch { shared_bytes, ..sizes.launch(&source, &backward) }, arguments)?;
    }
    // SAFETY: the kernels before on the stream have written all of the buffers.
    unsafe {
        sum_partials(&stream, partial_b, sizes.groups(), &mut gradients.b)?;
        sum_partials(&stream, partial_c, sizes.groups(), &mut gradients.c)?;
        sum_partials(&stream, partial_a, sizes.batch, &mut gradients.a)?;
        for (partials, gradient) in [(partial_d, &mut gradients.d), (partial_delta_bias, &mut gradients.delta_bias)] {
            if let Some(gradient) = gradient {
                sum_partials(&stream, partials, sizes.batch, gradient)?;
            }
        }
    }
    Ok(())
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
        grad_a: std::ptr::null_mut(),
        grad_b: std::ptr::null_mut(),
        grad_c: std::ptr::null_mut(),
        grad_d: std::ptr::null_mut(),
        grad_z: grad_z.pointer,
        grad_delta_bias: std::ptr::null_mut(),
        grad_initial_state: grad_initial_state.pointer.cast(),
        grad_out_batch_stride: grad_out.batch_stride(),
        grad_out_token_stride: grad_out.row_stride(),
        grad_last_state_batch_stride: grad_last_state.batch_stride(),
        grad_last_state_channel_stride: grad_last_state.row_stride(),
        grad_u_batch_stride: grad_u.batch_stride(),
        grad_u_token_stride: grad_u.row_stride(),
        grad_delta_batch_stride: grad_delta.batch_stride(),
        grad_delta_token_stride: grad_delta.row_stride(),
        grad_a_channel_stride: 0,
        grad_b_batch_stride: 0,
        grad_b_token_stride: 0,
        grad_c_batch_stride: 0,
        grad_c_token_stride: 0,
        grad_z_batch_stride: grad_z.batch_stride(),
        grad_z_token_stride: grad_z.row_stride(),
        grad_initial_state_batch_stride: grad_initial_state.batch_stride(),
        grad_initial_state_channel_stride: grad_initial_state.row_stride(),
    }
}
