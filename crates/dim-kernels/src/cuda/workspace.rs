//! Device memory for the length of a call.

use cudarc::driver::{result, sys};

use super::{Stream, check};
use crate::error::KernelError;

/// What the parts of a workspace are aligned to: a cache line.
const ALIGNMENT: usize = 256;

/// Uninitialised f32 memory, allocated and freed in the stream's order: nobody waits, and a graph can capture it.
pub(crate) struct Workspace<'a> {
    stream: &'a Stream,
    base: sys::CUdeviceptr,
    bytes: usize,
    taken: usize,
}

impl<'a> Workspace<'a> {
    /// Allocates room for parts of these numbers of f32.
    pub(crate) fn new(stream: &'a Stream, lengths: &[usize]) -> Result<Self, KernelError> {
        let bytes = lengths.iter().map(|&length| part_bytes(length)).try_fold(0, usize::checked_add);
        let Some(bytes) = bytes.filter(|&bytes| bytes <= isize::MAX.unsigned_abs()) else {
            let message = format!("a workspace of {lengths:?} floats is larger than memory");
            return Err(KernelError::Cuda { op: stream.op, call: "cuMemAllocAsync", message });
        };
        let base = if bytes == 0 {
            0
        } else {
            // SAFETY: the stream belongs to the current context.
            check(stream.op, "cuMemAllocAsync", unsafe { result::malloc_async(stream.raw(), bytes) })?
        };
        Ok(Self { stream, base, bytes, taken: 0 })
    }

    /// The next part, which must be one of those that were asked for, in their order; null if it is empty.
    pub(crate) fn take(&mut self, length: usize) -> *mut f32 {
        if length == 0 {
            return std::ptr::null_mut();
        }
        let start = self.taken;
        self.taken += part_bytes(length);
        assert!(self.taken <= self.bytes, "more of a workspace is taken than was asked for");
        (self.base + start as u64) as *mut f32
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        if self.base != 0 {
            // SAFETY: allocated by `new`; freed after all that was put on the stream before. An error here is one of
            // earlier work, which the next call reports.
            let _ = unsafe { result::free_async(self.base, self.stream.raw()) };
        }
    }
}

fn part_bytes(length: usize) -> usize {
    length.saturating_mul(size_of::<f32>()).checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX)
}
