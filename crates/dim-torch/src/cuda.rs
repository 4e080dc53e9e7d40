//! Start-up of CUDA, and libtorch's current stream.

use std::ffi::c_void;

use tch::Device;

use crate::{TorchError, ffi};

/// Loads libtorch's CUDA half when it is there and tells whether a GPU can be used. Call it once, before any tensor.
///
/// On a GPU, libtorch is asked for the variants of its operations that give the same bits twice: a run that is stopped and
/// resumed is then the run that was not. Products and convolutions of f32 are computed in f32: TF32 is off.
///
/// A Rust program is linked against `libtorch_cpu` alone, so that one binary serves machines with and without a GPU;
/// `libtorch_cuda.so` registers its kernels when it is opened.
#[must_use]
pub fn start() -> bool {
    #[cfg(target_os = "linux")]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: the initialisers of libtorch_cuda.so only register kernels with the dispatcher of libtorch_cpu,
        // which is loaded already; a library that cannot be opened (no GPU libraries installed) runs none.
        if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
            std::mem::forget(library); // its kernels stay registered for the life of the program
        }
    }
    let available = tch::Cuda::is_available();
    if available {
        // SAFETY: the callee sets flags of libtorch's global context, before any other thread uses it. A failure is not
        // worth stopping for: the results are right either way.
        let _ = ffi::check(unsafe { ffi::dim_prefer_deterministic() });
        // SAFETY: as above. A libtorch that cannot forbid TF32 does not know it.
        let _ = ffi::check(unsafe { ffi::dim_forbid_tf32() });
    }
    available
}

/// Whether `device` computes in bf16 at full speed.
#[must_use]
pub fn has_bf16(device: Device) -> bool {
    // Every card that this project's kernels are built for (sm_80 and newer) does.
    matches!(device, Device::Cuda(_))
}

/// libtorch's current stream on CUDA device `ordinal`, as the driver API takes it.
pub(crate) fn current_stream(ordinal: usize) -> Result<*mut c_void, TorchError> {
    let index = i32::try_from(ordinal).map_err(|_| TorchError::Argument {
        operation: "current_stream",
        argument: "ordinal",
        expected: "a CUDA device number".to_owned(),
        got: ordinal.to_string(),
    })?;
    let mut stream = std::ptr::null_mut();
    // SAFETY: the callee writes one pointer to `stream` or returns a message.
    ffi::check(unsafe { ffi::dim_current_cuda_stream(index, &raw mut stream) })?;
    Ok(stream)
}
