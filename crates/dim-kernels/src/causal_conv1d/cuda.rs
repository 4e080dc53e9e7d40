//! The convolution on a GPU: kernels/causal_conv1d.

use std::ffi::c_void;

use super::params::{CausalConv1dBackward, CausalConv1dForward, CausalConv1dInputs};
use super::shape::Sizes;
use super::{CausalConv1d, CausalConv1dGradients};
use crate::cuda::{self, Launch, Place, Stream, Workspace, size};
use crate::error::KernelError;
use crate::view::{DType, TensorView, TensorViewMut};

/// The filter widths that there are kernels for.
pub(super) const WIDTHS: [usize; 7] = [2, 3, 4, 5, 6, 7, 8];

// As in kernels/causal_conv1d/pack.cuh, convolution.cuh and sum.cuh.
const CHANNELS: usize = 4;
const WARP: usize = 32;
const WARPS: usize = 4;
const SUM_GROUPS: usize = 8;

/// Threads of a block.
const THREADS: u32 = (WARPS * WARP) as u32;
const SUM_THREADS: u32 = (SUM_GROUPS * WARP) as u32;

/// Steps that a warp walks where there is work for the whole card.
const CHUNK: usize = 96;

/// How short chunks become where there is not.
#[derive(Clone, Copy)]
struct Sharing {
    /// Warps that keep the largest card busy. Not the present card's: results would then depend on the card.
    warps: usize,
    /// Fewest steps of a warp: a tile or two of kernels/causal_conv1d, the steps beyond the chunk included.
    shortest: usize,
}

/// 32 resident warps on each of some 130 multiprocessors.
const FORWARD: Sharing = Sharing { warps: 4096, shortest: 4 };
/// 16 of them.
const BACKWARD: Sharing = Sharing { warps: 2048, shortest: 6 };

/// How a pass is shared out, as in kernels/causal_conv1d/work.h.
#[repr(C)]
struct Work {
    partials: *mut f32,
    blocks: u32,
    chunk: u32,
    packed: u32,
}

impl Work {
    /// Chunks of the greatest length, up to [`CHUNK`], that gives warps enough, all of a sequence about equally long.
    fn new(sharing: Sharing, sizes: Sizes, activations: &[(Place, DType)]) -> Self {
        let steps = sizes.batch * sizes.groups() * sizes.token;
        let chunk = (steps / sharing.warps).clamp(sharing.shortest, CHUNK);
        let blocks = sizes.token.div_ceil(chunk * WARPS);
        let chunk = sizes.token.div_ceil((blocks * WARPS).max(1));
        let packed = sizes.channel.is_multiple_of(CHANNELS)
            && activations.iter().all(|&(place, dtype)| sizes.is_packed(place, dtype));
        Self { partials: std::ptr::null_mut(), blocks: size(blocks), chunk: size(chunk), packed: packed.into() }
    }
}

impl Sizes {
    /// Groups of channels, each walked by one warp.
    fn groups(&self) -> usize {
        self.channel.div_ceil(WARP * CHANNELS)
    }

    /// Whether every row of an activation starts at a multiple of the size of [`CHANNELS`] elements.
    fn is_packed(&self, place: Place, dtype: DType) -> bool {
        let packed = |length: usize, stride: i64| length < 2 || stride % (CHANNELS as i64) == 0;
        place.pointer.addr().is_multiple_of(CHANNELS * dtype.size_bytes())
            && packed(self.batch, place.batch_stride())
            && packed(self.token, place.row_stride())
    }

    /// Blocks' shares of all sequences, each with partial sums of its own.
    fn pieces(&self, work: &Work) -> usize {
        self.batch * work.blocks as usize
    }

    fn launch<'a>(&self, work: &Work, source: &'a str, kernel: &'a str) -> Launch<'a> {
        let blocks = self.pieces(work) * self.groups();
        Launch { source, kernel, blocks, threads: THREADS, shared_bytes: 0 }
    }
}

fn inputs(stream: &Stream, conv: &CausalConv1d<'_>, sizes: Sizes) -> Result<CausalConv1dInputs, KernelError> {
    let [x, weight] = [&conv.x, &conv.weight].map(Place::of);
    Ok(CausalConv1dInputs {
        x: x.pointer,
        weight: weight.pointer.cast(),
        bias: Place::of_optional(conv.bias.as_ref()).pointer.cast(),
        token_map: conv.token_map.map_or(Ok(std::ptr::null()), |map| map.on_device(stream))?,
        x_batch_stride: x.batch_stride(),
        x_token_stride: x.row_stride(),
        weight_channel_stride: weight.row_stride(),
        batch: size(sizes.batch),
        token: size(sizes.token),
        channel: size(sizes.channel),
        width: size(sizes.width),
        silu: conv.silu.into(),
    })
}

pub(super) fn forward(
    (ordinal, stream): (usize, *mut c_void),
    conv: &CausalConv1d<'_>,
    sizes: Sizes,
    out: &mut TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("causal_conv1d::forward", ordinal, stream)?;
    let (dtype, out) = (conv.x.dtype(), Place::of_mut(out));
    let mut params = CausalConv1dForward {
        inputs: inputs(&stream, conv, sizes)?,
        out: out.pointer,
        out_batch_stride: out.batch_stride(),
        out_token_stride: out.row_stride(),
    };
    let mut work = Work::new(FORWARD, sizes, &[(Place::of(&conv.x), dtype), (out, dtype)]);
    let suffix = cuda::suffix(dtype);
    let source = format!("causal_conv1d/fwd_{suffix}");
    let kernel = format!("causal_conv1d_fwd_{suffix}_w{}", sizes.width);
    // SAFETY: the kernel takes a `CausalConv1dForward`, where every pointer is that of a checked view of these sizes, and
    // how it is shared out.
    unsafe {
        let arguments = &mut [(&raw mut params).cast(), (&raw mut work).cast()];
        stream.launch(sizes.launch(&work, &source, &kernel), arguments)
    }
}

pub(super) fn backward(
    (ordinal, stream): (usize, *mut c_void),
    conv: &CausalConv1d<'_>,
    sizes: Sizes,
    grad_out: &TensorView<'_>,
    gradients: &mut CausalConv1dGradients<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("causal_conv1d::backward", ordinal, stream)?;
    let (dtype, x) = (conv.x.dtype(), Place::of(&conv.x));
    let (grad_out, grad_x) = (Place::of(grad_out), Place::of_mut(&mut gradients.x));
    let grad_weight = Place::of_mut(&mut gradients.weight);
    let mut params = CausalConv1dBackward {
        inputs: inputs(&stream, conv, sizes)?,
        grad_out: grad_out.pointer,
        grad_x: grad_x.pointer,
        grad_weight: grad_weight.pointer.cast(),
        grad_bias: Place::of_optional_mut(gradients.bias.as_mut()).pointer.cast(),
        grad_out_batch_stride: grad_out.batch_stride(),
        grad_out_token_stride: grad_out.row_stride(),
        grad_x_batch_stride: grad_x.batch_stride(),
        grad_x_token_stride: grad_x.row_stride(),
        grad_weight_channel_stride: grad_weight.row_stride(),
    };
    let mut work = Work::new(BACKWARD, sizes, &[(x, dtype), (grad_out, dtype), (grad_x, dtype)]);
    let elements = (sizes.width + 1) * sizes.channel;
    let length = sizes.pieces(&work) * elements;
    let mut workspace = Workspace::new(&stream, &[length])?;
    work.partials = workspace.take(length);

    let suffix = cuda::suffix(dtype);
    let source = format!("causal_conv1d/bwd_{suffix}");
    let kernel = format!("causal_conv1d_bwd_{suffix}_w{}", sizes.width);
    let sum = Launch {
        source: "causal_conv1d/sum",
        kernel: "causal_conv1d_sum",
        blocks: elements.div_ceil(WARP),
        threads: SUM_THREADS,
        shared_bytes: 0,
    };
    // SAFETY: both kernels take a `CausalConv1dBackward`, where every pointer is that of a checked view of these sizes,
    // and how it is shared out, with a buffer of the length that they use; the first fills it before the second reads.
    unsafe {
        let arguments = &mut [(&raw mut params).cast(), (&raw mut work).cast()];
        stream.launch(sizes.launch(&work, &source, &kernel), arguments)?;
        stream.launch(sum, arguments)
    }
}
