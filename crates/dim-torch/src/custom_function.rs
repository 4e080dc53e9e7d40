//! Differentiable operations written in Rust: one generic C++ autograd node with callbacks into a [`CustomFunction`].

use std::{
    any::Any,
    ffi::{c_char, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{
    TorchError,
    ffi::{self, DimCallbacks, DimTensorList},
};

/// Most outputs an operation may have.
const MAX_OUTPUTS: usize = 8;

/// What forward hands back.
pub struct Forward {
    /// The operation's results.
    pub outputs: Vec<Tensor>,
    /// Inputs or other tensors that backward needs. Libtorch refuses to go backward if one was overwritten meanwhile.
    pub saved: Vec<Tensor>,
}

/// An operation with a first derivative, recorded in libtorch's autograd graph by [`apply`].
///
/// Both functions run without recording; on a GPU, backward runs on autograd's own thread. An error or a panic in
/// either becomes an error of the libtorch call that led to it.
pub trait CustomFunction: Send + 'static {
    /// The name that errors carry.
    const NAME: &'static str;

    /// Computes the outputs.
    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError>;

    /// Computes the gradient of each input, in their order; `None` where it is zero or not needed.
    ///
    /// `grad_outputs` has one entry an output, `None` where the loss does not depend on it; `needs_gradient` one an input.
    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError>;
}

/// Runs `operation` on `inputs` and records it for backward when an input requires a gradient.
pub fn apply<F: CustomFunction>(operation: F, inputs: &[&Tensor]) -> Result<Vec<Tensor>, TorchError> {
    let raw_inputs: Vec<*const C_tensor> = inputs.iter().map(|tensor| tensor.as_ptr()).collect();
    let callbacks = DimCallbacks { forward: forward::<F>, backward: backward::<F>, drop: drop_operation::<F> };
    let operation = Box::into_raw(Box::new(operation)).cast::<c_void>();
    let mut outputs = [std::ptr::null_mut(); MAX_OUTPUTS];
    let mut count = 0;
    // SAFETY: the inputs are live tensors borrowed for the call; `operation` is a boxed F, the type that the callbacks
    // were made for, and C++ takes ownership of it in every case; `outputs` has room for MAX_OUTPUTS handles.
    let message = unsafe {
        ffi::dim_apply(
            raw_inputs.as_ptr(),
            raw_inputs.len(),
            operation,
            callbacks,
            outputs.as_mut_ptr(),
            MAX_OUTPUTS,
            &raw mut count,
        )
    };
    ffi::check(message)?;
    // SAFETY: on success C++ wrote `count` handles made with `new at::Tensor`, which tch's Tensor owns and deletes.
    Ok(outputs[..count].iter().map(|&output| unsafe { Tensor::from_ptr(output) }).collect())
}

/// Runs a callback's body; an error or a panic becomes a message for C++.
fn guarded<F: CustomFunction>(body: impl FnOnce() -> Result<(), TorchError>) -> *mut c_char {
    // After a panic the operation is not called again: the node that holds it is unwound with the error.
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return std::ptr::null_mut(),
        Ok(Err(error)) => error,
        Err(payload) => TorchError::Panic { operation: F::NAME, message: panic_message(&*payload) },
    };
    ffi::message(&error.to_string())
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// The forward callback.
///
/// # Safety
/// For the C++ side alone: `operation` is the F that [`apply`] boxed, used by nobody else during the call; `inputs` points
/// at `input_count` live tensors; the lists are alive.
unsafe extern "C" fn forward<F: CustomFunction>(
    operation: *mut c_void,
    inputs: *const *mut C_tensor,
    input_count: usize,
    outputs: *mut DimTensorList,
    saved: *mut DimTensorList,
) -> *mut c_char {
    guarded::<F>(|| {
        // SAFETY: C++ calls this with the pointer that `apply::<F>` boxed, while nobody else uses the operation.
        let operation = unsafe { &mut *operation.cast::<F>() };
        // SAFETY: C++ passes `input_count` defined tensors that live for the call.
        let inputs: Vec<Tensor> = unsafe { handles(inputs, input_count) }.into_iter().flatten().collect();
        let result = operation.forward(&inputs)?;
        push_all(outputs, result.outputs.iter().map(Some));
        push_all(saved, result.saved.iter().map(Some));
        Ok(())
    })
}

/// The backward callback.
///
/// # Safety
/// For the C++ side alone: `operation` is the F that [`apply`] boxed; the arrays have the lengths beside them and hold
/// live tensors or null; the list is alive.
unsafe extern "C" fn backward<F: CustomFunction>(
    operation: *mut c_void,
    saved: *const *mut C_tensor,
    saved_count: usize,
    grad_outputs: *const *mut C_tensor,
    output_count: usize,
    needs_gradient: *const bool,
    input_count: usize,
    grad_inputs: *mut DimTensorList,
) -> *mut c_char {
    guarded::<F>(|| {
        // SAFETY: as in forward; backward only reads the operation.
        let operation = unsafe { &*operation.cast::<F>() };
        // SAFETY: C++ passes arrays of the lengths beside them, alive for the call.
        let (saved, grad_outputs, needs_gradient) = unsafe {
            let saved: Vec<Tensor> = handles(saved, saved_count).into_iter().flatten().collect();
            (saved, handles(grad_outputs, output_count), slice::from_raw_parts(needs_gradient, input_count))
        };
        let gradients = operation.backward(&saved, &grad_outputs, needs_gradient)?;
        push_all(grad_inputs, gradients.iter().map(Option::as_ref));
        Ok(())
    })
}

/// The callback that ends an operation's life.
///
/// # Safety
/// For the C++ side alone, once: `operation` is the F that [`apply`] boxed, and nobody uses it afterwards.
unsafe extern "C" fn drop_operation<F: CustomFunction>(operation: *mut c_void) {
    // SAFETY: C++ calls this once, when its last owner goes, with the pointer that `apply::<F>` boxed.
    let operation = unsafe { Box::from_raw(operation.cast::<F>()) };
    // A panicking destructor must not unwind into C++ either; there is nobody left to tell.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(operation)));
}

/// Own handles to `count` tensors, `None` where the pointer is null.
///
/// # Safety
/// `tensors` must point at `count` pointers, each null or a live tensor.
unsafe fn handles(tensors: *const *mut C_tensor, count: usize) -> Vec<Option<Tensor>> {
    (0..count)
        .map(|index| {
            // SAFETY: the caller promises `count` pointers, null or alive.
            unsafe {
                let tensor = *tensors.add(index);
                (!tensor.is_null()).then(|| Tensor::clone_from_ptr(tensor))
            }
        })
        .collect()
}

/// Appends copies of the handles to a list of the C++ side.
fn push_all<'a>(list: *mut DimTensorList, tensors: impl Iterator<Item = Option<&'a Tensor>>) {
    for tensor in tensors {
        let raw = tensor.map_or(std::ptr::null(), Tensor::as_ptr);
        // SAFETY: C++ passed the list for this callback; the tensor is null or alive, and the list copies its handle.
        unsafe { ffi::dim_tensor_list_push(list, raw) };
    }
}
