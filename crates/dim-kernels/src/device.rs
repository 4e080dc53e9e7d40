//! Where a kernel runs.

use std::ffi::c_void;

use crate::view::Device;

/// The queue that a kernel is put on.
///
/// On [`Queue::Cpu`] an op has finished when its call returns; it runs on the rayon pool of the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Queue {
    /// The host's cores.
    Cpu,
    /// A CUDA stream: the op has been put on the stream when its call returns.
    Cuda {
        /// Index of the device.
        ordinal: usize,
        /// A `CUstream` of the device's primary context, the one that libtorch uses.
        stream: *mut c_void,
    },
}

impl Queue {
    /// The device whose memory this queue's kernels read and write.
    #[must_use]
    pub fn device(&self) -> Device {
        match *self {
            Self::Cpu => Device::Cpu,
            Self::Cuda { ordinal, .. } => Device::Cuda(ordinal),
        }
    }
}
