//! Launches on a stream.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use super::check;
use super::device::Device;
use crate::error::KernelError;

/// A stream of a device whose primary context is current on this thread for as long as this lives.
pub(crate) struct Stream {
    pub(super) op: &'static str,
    pub(super) ordinal: usize,
    device: &'static Device,
    stream: sys::CUstream, // a raw pointer, which also keeps this on its thread
}

/// A grid of blocks for a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// `<operation>/<name>` of the CUDA source.
    pub(crate) source: &'a str,
    /// The symbol.
    pub(crate) kernel: &'a str,
    /// Number of blocks; for none, nothing is launched.
    pub(crate) blocks: usize,
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block.
    pub(crate) shared_bytes: u32,
}

impl Stream {
    /// Makes the device's primary context current, whatever was before: autograd's backward thread has none of its own.
    pub(crate) fn enter(op: &'static str, ordinal: usize, stream: *mut c_void) -> Result<Self, KernelError> {
        let device = Device::get(op, ordinal)?;
        // SAFETY: the context is retained for the life of the program; `drop` pops it from this thread again.
        check(op, "cuCtxPushCurrent", unsafe { sys::cuCtxPushCurrent_v2(device.context()) }.result())?;
        Ok(Self { op, ordinal, device, stream: stream.cast() })
    }

    pub(super) fn raw(&self) -> sys::CUstream {
        self.stream
    }

    /// Puts a kernel on the stream.
    ///
    /// # Safety
    /// `parameters` must point to values of the kernel's parameters' types, in order, and the pointers in these to device memory that
    /// has what the kernel reads and room for what it writes, until the stream has run it.
    pub(crate) unsafe fn launch(&self, launch: Launch<'_>, parameters: &mut [*mut c_void]) -> Result<(), KernelError> {
        if launch.blocks == 0 {
            return Ok(());
        }
        let call = "cuLaunchKernel";
        let blocks = i32::try_from(launch.blocks).ok().and_then(|blocks| u32::try_from(blocks).ok());
        let Some(blocks) = blocks else {
            let message = format!("a grid has at most {} blocks, this one would have {}", i32::MAX, launch.blocks);
            return Err(KernelError::Cuda { op: self.op, call, message });
        };
        let function = self.device.function(self.op, launch.source, launch.kernel, launch.shared_bytes)?;
        // SAFETY: the function belongs to the current context; the caller vouches for the parameters.
        let launched = unsafe {
            let (grid, block) = ((blocks, 1, 1), (launch.threads, 1, 1));
            result::launch_kernel(function, grid, block, launch.shared_bytes, self.stream, parameters)
        };
        check(self.op, call, launched)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pops what `enter` pushed on this thread. It fails only when the driver is shutting down.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut popped) };
    }
}
