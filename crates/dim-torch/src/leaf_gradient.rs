//! The gradient of a leaf, for those who add to it or take it away beside autograd.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{TorchError, ffi};

type Action = Box<dyn Fn() -> Result<(), TorchError> + Send>;

/// Does `action` after every accumulation into the leaf's gradient, on autograd's thread; an error ends the backward pass.
pub(crate) fn after_accumulation(
    leaf: &Tensor,
    action: impl Fn() -> Result<(), TorchError> + Send + 'static,
) -> Result<(), TorchError> {
    let state: *mut Action = Box::into_raw(Box::new(Box::new(action) as Action));
    // SAFETY: the leaf is alive; the C++ side owns `state` from here on, in every case, and gives it to `forget` once.
    ffi::check(unsafe { ffi::dim_after_accumulation(leaf.as_ptr(), state.cast(), act, forget) })
}

/// Says that a gradient was added to the leaf's by somebody else than autograd: does what was left for [`after_accumulation`].
pub(crate) fn was_added(leaf: &Tensor) -> Result<(), TorchError> {
    // SAFETY: the leaf is alive.
    ffi::check(unsafe { ffi::dim_gradient_was_added(leaf.as_ptr()) })
}

/// Takes a leaf's gradient away from it, if it has one.
pub(crate) fn take_gradient(leaf: &Tensor) -> Result<Option<Tensor>, TorchError> {
    let mut gradient = std::ptr::null_mut();
    // SAFETY: the leaf is alive. The callee writes a handle that the caller owns, or null, or returns a message.
    ffi::check(unsafe { ffi::dim_take_gradient(leaf.as_ptr(), &raw mut gradient) })?;
    // SAFETY: a handle that is not null is a tensor of its own, owned here alone.
    Ok((!gradient.is_null()).then(|| unsafe { Tensor::from_ptr(gradient) }))
}

/// Does the action behind `state`.
///
/// # Safety
/// `state` is the box of [`after_accumulation`], which lives until [`forget`].
unsafe extern "C" fn act(state: *mut c_void, _leaf: *const C_tensor) -> *mut c_char {
    // SAFETY: `state` is the box of `after_accumulation`, which lives until `forget`; autograd runs one hook of a leaf at a time.
    let action = unsafe { &*state.cast::<Action>() };
    // No panic may cross into C++.
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(Ok(())) => std::ptr::null_mut(),
        Ok(Err(error)) => ffi::message(&error.to_string()),
        Err(_) => ffi::message("a hook on a gradient panicked"),
    }
}

/// Ends the action behind `state`.
///
/// # Safety
/// `state` is the box of [`after_accumulation`], and this is called once.
unsafe extern "C" fn forget(state: *mut c_void) {
    // SAFETY: called once, with the box of `after_accumulation`.
    drop(unsafe { Box::from_raw(state.cast::<Action>()) });
}
