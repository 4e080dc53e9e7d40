//! Tensors as the views that kernels take. The only place where a tensor's memory leaves libtorch.

use dim_kernels::{DType, Device, Queue, TensorView, TensorViewMut};
use tch::{Kind, Tensor};

use crate::{TorchError, cuda, ffi};

/// A view to read a tensor through, alive as long as the borrow.
pub(crate) fn view<'a>(
    operation: &'static str,
    argument: &'static str,
    tensor: &'a Tensor,
) -> Result<TensorView<'a>, TorchError> {
    let parts = Parts::of(operation, argument, tensor)?;
    // SAFETY: libtorch's storage holds every element that shape and strides reach, and the borrow keeps it alive.
    let view = unsafe {
        TensorView::from_raw_parts(
            tensor.data_ptr().cast_const(),
            parts.dtype,
            parts.device,
            &parts.shape,
            &parts.strides,
        )
    };
    Ok(view?)
}

/// A view to write a tensor through. The tensor must be fresh: nobody else may hold its storage, but for handles of other
/// elements, such as other columns of the same fresh buffer.
pub(crate) fn view_mut<'a>(
    operation: &'static str,
    argument: &'static str,
    tensor: &'a mut Tensor,
) -> Result<TensorViewMut<'a>, TorchError> {
    let parts = Parts::of(operation, argument, tensor)?;
    // SAFETY: as in `view`; the callers of this crate allocate the tensor themselves just before, so that the
    // exclusive borrow of the handle is an exclusive borrow of its elements; kernels touch no others.
    let view = unsafe {
        TensorViewMut::from_raw_parts(tensor.data_ptr(), parts.dtype, parts.device, &parts.shape, &parts.strides)
    };
    Ok(view?)
}

/// A view to change a tensor in place through. Autograd is told of the write when the view is made.
///
/// # Safety
/// As long as the view lives, no other thread may use the tensor's storage, nor may this one through another handle: what
/// libtorch asks of its own in-place operations.
pub(crate) unsafe fn view_in_place<'a>(
    operation: &'static str,
    argument: &'static str,
    tensor: &'a Tensor,
) -> Result<TensorViewMut<'a>, TorchError> {
    let parts = Parts::of(operation, argument, tensor)?;
    // SAFETY: the handle is alive; the callee counts the write, and touches nothing else.
    ffi::check(unsafe { ffi::dim_bump_version(tensor.as_ptr()) })?;
    // SAFETY: libtorch's storage holds every element that shape and strides reach, and the borrow keeps it alive; the caller
    // answers for nobody else using it.
    let view = unsafe {
        TensorViewMut::from_raw_parts(tensor.data_ptr(), parts.dtype, parts.device, &parts.shape, &parts.strides)
    };
    Ok(view?)
}

/// Where a kernel on this tensor runs: the CPU, or libtorch's current stream of its GPU.
pub(crate) fn queue(tensor: &Tensor) -> Result<Queue, TorchError> {
    match tensor.device() {
        tch::Device::Cuda(ordinal) => Ok(Queue::Cuda { ordinal, stream: cuda::current_stream(ordinal)? }),
        _ => Ok(Queue::Cpu),
    }
}

struct Parts {
    dtype: DType,
    device: Device,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Parts {
    fn of(operation: &'static str, argument: &'static str, tensor: &Tensor) -> Result<Self, TorchError> {
        let wrong = |expected: &str, got: String| TorchError::Argument {
            operation,
            argument,
            expected: expected.to_owned(),
            got,
        };
        let dtype = match tensor.kind() {
            Kind::Float => DType::F32,
            Kind::Half => DType::F16,
            Kind::BFloat16 => DType::Bf16,
            other => return Err(wrong("f32, f16 or bf16", format!("{other:?}"))),
        };
        let device = match tensor.device() {
            tch::Device::Cpu => Device::Cpu,
            tch::Device::Cuda(ordinal) => Device::Cuda(ordinal),
            other => return Err(wrong("on the CPU or a CUDA device", format!("{other:?}"))),
        };
        let unsigned = |values: Vec<i64>| -> Result<Vec<usize>, TorchError> {
            let converted: Result<_, _> = values.iter().map(|&value| usize::try_from(value)).collect();
            converted.map_err(|_| wrong("of non-negative sizes and strides", format!("{values:?}")))
        };
        Ok(Self { dtype, device, shape: unsigned(tensor.size())?, strides: unsigned(tensor.stride())? })
    }
}
