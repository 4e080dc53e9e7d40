//! A token map's copies on the devices that have used it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::{result, sys};

use super::{Stream, check};
use crate::error::KernelError;

/// The copies, each made on the device's first use of the map and freed with the map.
#[derive(Default)]
pub(crate) struct DeviceTokens {
    copies: Mutex<Vec<Copy>>,
}

struct Copy {
    ordinal: usize,
    tokens: sys::CUdeviceptr,
}

impl DeviceTokens {
    /// The tokens on the stream's device.
    ///
    /// The first call for a device waits until the copy is there, since other streams may use it next; do it before capturing a graph.
    pub(crate) fn get(&self, stream: &Stream, tokens: &[u32]) -> Result<*const u32, KernelError> {
        if tokens.is_empty() {
            return Ok(std::ptr::null());
        }
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = copies.iter().find(|copy| copy.ordinal == stream.ordinal) {
            return Ok(copy.tokens as *const u32);
        }
        let op = stream.op;
        // SAFETY: the context is current.
        let memory = check(op, "cuMemAlloc", unsafe { result::malloc_sync(size_of_val(tokens)) })?;
        let copy = Copy { ordinal: stream.ordinal, tokens: memory };
        // SAFETY: the memory was just allocated, of the slice's size. The second call waits for the copy.
        let copied = unsafe { result::memcpy_htod_sync(memory, tokens) }
            .and_then(|()| unsafe { result::stream::synchronize(std::ptr::null_mut()) });
        if let Err(error) = copied {
            // SAFETY: allocated above, and unknown to anyone else.
            let _ = unsafe { result::free_sync(memory) };
            return check(op, "cuMemcpyHtoD", Err(error));
        }
        copies.push(copy);
        Ok(memory as *const u32)
    }
}

impl Drop for DeviceTokens {
    fn drop(&mut self) {
        let copies = self.copies.get_mut().unwrap_or_else(PoisonError::into_inner);
        for copy in copies.drain(..) {
            if let Ok(_current) = Stream::enter("TokenMap::drop", copy.ordinal, std::ptr::null_mut()) {
                // SAFETY: allocated by `get`. Freeing waits for the device, so no kernel is still reading.
                let _ = unsafe { result::free_sync(copy.tokens) };
            }
        }
    }
}

impl fmt::Debug for DeviceTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(copies.iter().map(|copy| copy.ordinal)).finish()
    }
}
