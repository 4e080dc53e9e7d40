//! What can be wrong with a call.

use crate::view::{DType, Device};

/// Why an op refused its arguments: which argument, what was expected, what came.
///
/// An op that returns an error has written nothing, unless the error is one of the CUDA driver ([`KernelError::Cuda`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// An argument has the wrong shape.
    #[error("{op}: `{argument}` must have shape {axes} = {expected:?}, got {got:?}")]
    Shape {
        /// The op that was called.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// What the dimensions mean, as `[batch, token, channel]`.
        axes: String,
        /// The shape that fits the other arguments.
        expected: Vec<usize>,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// An argument that sets the sizes of the others has the wrong number of dimensions.
    #[error("{op}: `{argument}` must have the dimensions {axes}, got the shape {got:?}")]
    Rank {
        /// The op that was called.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// What the dimensions mean, as `[batch, token, channel]`.
        axes: &'static str,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A dimension that must not be empty is.
    #[error("{op}: the {axis} dimension of `{argument}` must be at least 1, got 0")]
    Empty {
        /// The op that was called.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The dimension that must not be empty.
        axis: &'static str,
    },
    /// The last dimension is not contiguous, or an output's elements overlap.
    #[error("{op}: `{argument}` of shape {shape:?} must have {expected}, got the strides {got:?}")]
    Strides {
        /// The op that was called.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The argument's shape.
        shape: Vec<usize>,
        /// What the strides must be like.
        expected: &'static str,
        /// The strides that came, in elements.
        got: Vec<usize>,
    },
    /// An argument has a dtype that the kernel does not take.
    #[error("{op}: `{argument}` must be {expected} on {device}, got {got}")]
    DType {
        /// The op that was called.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The dtypes that this kernel takes.
        expected: &'static str,
        /// Where the kernel runs.
        device: Device,
        /// The dtype that came.
        got: DType,
    },
    /// An argument lies on another device than the queue.
    #[error("{op}: `{argument}` must lie on {expected} as the queue does, got memory on {got}")]
    Device {
        /// The op that was called.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The queue's device.
        expected: Device,
        /// Where the argument lies.
        got: Device,
    },
    /// A dimension has a length for which there is no kernel on the device.
    #[error("{op}: the {axis} dimension of `{argument}` must be {supported} on {device}, got {got}")]
    Size {
        /// The op that was called.
        op: &'static str,
        /// The argument that sets the dimension.
        argument: &'static str,
        /// The dimension at fault.
        axis: &'static str,
        /// The lengths that there are kernels for.
        supported: String,
        /// Where the kernel runs.
        device: Device,
        /// The length that came.
        got: usize,
    },
    /// The program was built without the CUDA kernels that the call needs.
    #[error(
        "{op}: this program was built without nvcc and lacks the CUDA kernels {needed} (all that it lacks: {missing}); \
         run `cargo xtask setup --nvcc`, then build it again, without DIM_CUDA_ARCHS=none"
    )]
    MissingKernels {
        /// The op that was called.
        op: &'static str,
        /// The source of the kernel that is needed.
        needed: String,
        /// The sources of all kernels that are missing.
        missing: String,
    },
    /// The CUDA driver refused a call; outputs may have been written in part.
    #[error("{op}: {call} failed: {message}")]
    Cuda {
        /// The op that was called.
        op: &'static str,
        /// The driver's function.
        call: &'static str,
        /// What the driver says.
        message: String,
    },
    /// An argument is missing that this call needs.
    #[error("{op}: `{argument}` must be given for this call, got None")]
    Absent {
        /// The op that was called.
        op: &'static str,
        /// The argument.
        argument: &'static str,
    },
    /// A gradient is asked for an input that was not given.
    #[error("{op}: `{argument}` must be None, as the input is that it belongs to, got a view")]
    GradientWithoutInput {
        /// The op that was called.
        op: &'static str,
        /// The gradient whose input is missing.
        argument: &'static str,
    },
    /// A token map has another length than the sequence.
    #[error("{op}: `token_map` must have the length {expected} of the sequence, got {got}")]
    TokenMapLength {
        /// The op that was called.
        op: &'static str,
        /// Number of tokens.
        expected: usize,
        /// Length of the map.
        got: usize,
    },
    /// A token map is not a bijection.
    #[error("a token map of length {len} must hold each of 0..{len} once, got {got} at step {step}, {problem}")]
    TokenMap {
        /// Length of the map.
        len: usize,
        /// The step at fault.
        step: usize,
        /// The value there.
        got: u32,
        /// "which is out of range" or "which came before".
        problem: &'static str,
    },
    /// A view's shape does not fit its memory.
    #[error("a view of shape {shape:?} must have {expected}, got {got}")]
    View {
        /// The shape that was asked for.
        shape: Vec<usize>,
        /// What would fit.
        expected: String,
        /// What came.
        got: String,
    },
    /// A slice handed to a reference implementation has the wrong length.
    #[error("{op}: `{argument}` must have {expected} elements, got {got}")]
    Length {
        /// The op that was called.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// Number of elements that fit the sizes.
        expected: usize,
        /// Number of elements that came.
        got: usize,
    },
}
