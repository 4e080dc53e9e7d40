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
        let _ = ffi::check(unsafe { ffi::dim_allow_tf32_convolutions(false) });
    }
    available
}

/// Whether `device` computes in bf16 at full speed.
#[must_use]
pub fn has_bf16(device: Device) -> bool {
    // Every card that this project's kernels are built for (sm_80 and newer) does.
    matches!(device, Device::Cuda(_))
}

/// Makes CUDA device `ordinal` the one that libtorch takes where none is named.
///
/// # Errors
/// No such device, or CUDA was not started.
pub fn set_device(ordinal: usize) -> Result<(), TorchError> {
    // SAFETY: the callee changes which device this thread uses by default, or returns a message.
    ffi::check(unsafe { ffi::dim_set_cuda_device(device_index("set_device", ordinal)?) })
}

/// Lets a GPU round the inputs of f32 convolutions to TF32, which keeps 10 bits: several times as fast, and what PyTorch does by default.
///
/// # Errors
/// An error of libtorch.
pub fn allow_tf32_convolutions() -> Result<(), TorchError> {
    // SAFETY: as in `prefer_fast`.
    ffi::check(unsafe { ffi::dim_allow_tf32_convolutions(true) })
}

/// Lets libtorch take its fastest operations although they may not give the same bits twice: for measurements alone.
///
/// # Errors
/// An error of libtorch.
pub fn prefer_fast() -> Result<(), TorchError> {
    // SAFETY: the callee sets flags of libtorch's global context, which it reads when an operation is called.
    ffi::check(unsafe { ffi::dim_prefer_fast() })
}

/// An implementation of attention in libtorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// cuDNN's.
    CuDnn,
    /// FlashAttention-2. Source: Dao 2023 (arXiv 2307.08691).
    Flash,
    /// The one that keeps memory low on every card.
    MemoryEfficient,
}

/// Chooses the implementation that libtorch's attention takes on a GPU; what it cannot do goes to plain operations.
///
/// # Errors
/// An error of libtorch.
pub fn choose_attention(attention: Attention) -> Result<(), TorchError> {
    let is = |other| attention == other;
    // SAFETY: as in `prefer_fast`.
    ffi::check(unsafe {
        ffi::dim_choose_attention(is(Attention::Flash), is(Attention::CuDnn), is(Attention::MemoryEfficient))
    })
}

/// The most bytes that tensors held on CUDA device `ordinal` since [`reset_peak_memory`].
///
/// # Errors
/// No such device, or CUDA was not started.
pub fn peak_memory(ordinal: usize) -> Result<u64, TorchError> {
    let mut bytes = 0;
    // SAFETY: the callee writes one number to `bytes` or returns a message.
    ffi::check(unsafe { ffi::dim_peak_memory(device_index("peak_memory", ordinal)?, &raw mut bytes) })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Gives memory that no tensor holds back to CUDA device `ordinal`, and starts counting for [`peak_memory`].
///
/// # Errors
/// No such device, or CUDA was not started.
pub fn reset_peak_memory(ordinal: usize) -> Result<(), TorchError> {
    // SAFETY: the callee frees memory that no tensor holds, and resets counters.
    ffi::check(unsafe { ffi::dim_reset_peak_memory(device_index("reset_peak_memory", ordinal)?) })
}

fn device_index(operation: &'static str, ordinal: usize) -> Result<i32, TorchError> {
    // libtorch numbers devices in 8 bits.
    i8::try_from(ordinal).map(i32::from).map_err(|_| TorchError::Argument {
        operation,
        argument: "ordinal",
        expected: "a CUDA device number".to_owned(),
        got: ordinal.to_string(),
    })
}

/// libtorch's current stream on CUDA device `ordinal`, as the driver API takes it.
pub(crate) fn current_stream(ordinal: usize) -> Result<*mut c_void, TorchError> {
    let index = device_index("current_stream", ordinal)?;
    let mut stream = std::ptr::null_mut();
    // SAFETY: the callee writes one pointer to `stream` or returns a message.
    ffi::check(unsafe { ffi::dim_current_cuda_stream(index, &raw mut stream) })?;
    Ok(stream)
}
