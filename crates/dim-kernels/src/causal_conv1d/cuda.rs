//! The convolution on a GPU: kernels/causal_conv1d.

use std::ffi::c_void;

use super::params::{CausalConv1dBackward, CausalConv1dForward, CausalConv1dInputs};
use super::shape::Sizes;
use super::{CausalConv1d, CausalConv1dGradients};
use crate::cuda::{self, Launch, Place, Stream, Workspace, sum_partials};
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

/// The filter widths that there are kernels for.
pub(super) const WIDTHS: [usize; 7] = [2, 3, 4, 5, 6, 7, 8];

// As in kernels/causal_conv1d/convolution.cuh.
const THREADS: u32 = 128;
const CHUNK: usize = 64;

/// Device memory of a backward pass, as in kernels/causal_conv1d/workspace.h.
#[repr(C)]
struct Buffers {
    partial_weight: *mut f32,
    partial_bias: *mut f32,
}

impl Sizes {
    /// Pieces of all sequences, each walked by one thread a channel.
    fn pieces(&self) -> usize {
        self.batch * self.token.div_ceil(CHUNK)
    }

    fn launch<'a>(&self, source: &'a str, kernel: &'a str) -> Launch<'a> {
        let blocks = self.pieces() * self.channel.div_ceil(THREADS as usize);
        Launch { source, kernel, blocks, threads: THREADS, shared_bytes: 0 }
    }
}

/// A size as kernels take it; the checks have refused what does not fit.
fn size(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
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
    let out = Place::of_mut(out);
    let mut params = CausalConv1dForward {
        inputs: inputs(&stream, conv, sizes)?,
        out: out.pointer,
        out_batch_stride: out.batch_stride(),
        out_token_stride: out.row_stride(),
    };
    let dtype = cuda::suffix(conv.x.dtype());
    let source = format!("causal_conv1d/fwd_{dtype}");
    let kernel = format!("causal_conv1d_fwd_{dtype}_w{}", sizes.width);
    // SAFETY: the kernel takes one `CausalConv1dForward`, and every pointer is that of a checked view of these sizes.
    unsafe { stream.launch(sizes.launch(&source, &kernel), &mut [(&raw mut params).cast()]) }
}

pub(super) fn backward(
    (ordinal, stream): (usize, *mut c_void),
    conv: &CausalConv1d<'_>,
    sizes: Sizes,
    grad_out: &TensorView<'_>,
    gradients: &mut CausalConv1dGradients<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("causal_conv1d::backward", ordinal, stream)?;
    let (grad_out, grad_x) = (Place::of(grad_out), Place::of_mut(&mut gradients.x));
    // The sums over tokens and batch are written by `sum_partials`, so the kernel gets no pointer to them.
    let mut params = CausalConv1dBackward {
        inputs: inputs(&stream, conv, sizes)?,
        grad_out: grad_out.pointer,
        grad_x: grad_x.pointer,
        grad_weight: std::ptr::null_mut(),
        grad_bias: std::ptr::null_mut(),
        grad_out_batch_stride: grad_out.batch_stride(),
        grad_out_token_stride: grad_out.row_stride(),
        grad_x_batch_stride: grad_x.batch_stride(),
        grad_x_token_stride: grad_x.row_stride(),
        grad_weight_channel_stride: 0,
    };
    let lengths = [sizes.pieces() * sizes.channel * sizes.width, sizes.pieces() * sizes.channel];
    let mut workspace = Workspace::new(&stream, &lengths)?;
    let [partial_weight, partial_bias] = lengths.map(|length| workspace.take(length));
    let mut buffers = Buffers { partial_weight, partial_bias };

    let dtype = cuda::suffix(conv.x.dtype());
    let source = format!("causal_conv1d/bwd_{dtype}");
    let kernel = format!("causal_conv1d_bwd_{dtype}_w{}", sizes.width);
    // SAFETY: the kernel takes a `CausalConv1dBackward` and the workspace's buffers; every pointer is that of a checked
    // view of these sizes, or of a buffer of the length that the kernel uses, which it fills before the sums read it.
    unsafe {
        let arguments = &mut [(&raw mut params).cast(), (&raw mut buffers).cast()];
        stream.launch(sizes.launch(&source, &kernel), arguments)?;
        sum_partials(&stream, partial_weight, sizes.pieces(), &mut gradients.weight)?;
        if let Some(bias) = &mut gradients.bias {
            sum_partials(&stream, partial_bias, sizes.pieces(), bias)?;
        }
    }
    Ok(())
}
