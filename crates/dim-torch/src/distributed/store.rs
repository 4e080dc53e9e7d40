//! The store in which the processes of a run find each other. Source: c10d's `TCPStore`.

use std::ffi::{CString, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{TorchError, ffi};

/// A connection to the store, or to the part of it whose keys begin with some prefix.
pub(super) struct Store {
    /// One thread at a time: a connection waits for its answer.
    handle: Mutex<Handle>,
}

struct Handle(*mut c_void);

// SAFETY: libtorch's store belongs to no thread; the lock around the handle lets one use it at a time.
unsafe impl Send for Handle {}

impl Store {
    /// Connects to the store at `host`:`port`; `opens` opens it there first.
    pub(super) fn connect(host: &str, port: u16, opens: bool, timeout: Duration) -> Result<Self, TorchError> {
        let host = text(host)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the callee reads the string during the call and writes one pointer to `handle` or returns a message.
        ffi::check(unsafe { ffi::dim_store_new(host.as_ptr(), port, opens, milliseconds(timeout), &raw mut handle) })?;
        Ok(Self { handle: Mutex::new(Handle(handle)) })
    }

    /// The part whose keys begin with `prefix`; it shares the connection.
    pub(super) fn part(&self, prefix: &str) -> Result<Self, TorchError> {
        let prefix = text(prefix)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: as above; the part keeps the store alive by a reference of its own.
        self.with(|store| unsafe { ffi::dim_store_prefixed(store, prefix.as_ptr(), &raw mut handle) })?;
        Ok(Self { handle: Mutex::new(Handle(handle)) })
    }

    /// Sets a key.
    pub(super) fn set(&self, key: &str, value: &str) -> Result<(), TorchError> {
        let key = text(key)?;
        // SAFETY: key and value are read during the call.
        self.with(|store| unsafe { ffi::dim_store_set(store, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// The value of a key, as soon as some process sets it.
    pub(super) fn get(&self, key: &str, timeout: Duration) -> Result<String, TorchError> {
        let key = text(key)?;
        let mut value = Vec::new();
        // SAFETY: the callee calls `keep` with `value` during the call, or returns a message.
        self.with(|store| unsafe {
            ffi::dim_store_get(store, key.as_ptr(), milliseconds(timeout), (&raw mut value).cast(), keep)
        })?;
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// Adds to the number at a key, 0 at first; returns the sum.
    pub(super) fn add(&self, key: &str, amount: i64) -> Result<i64, TorchError> {
        let key = text(key)?;
        let mut sum = 0;
        // SAFETY: the key is read during the call, which writes one number or returns a message.
        self.with(|store| unsafe { ffi::dim_store_add(store, key.as_ptr(), amount, &raw mut sum) })?;
        Ok(sum)
    }

    /// Whether a key is set.
    pub(super) fn has(&self, key: &str) -> Result<bool, TorchError> {
        let key = text(key)?;
        let mut is_set = false;
        // SAFETY: as above.
        self.with(|store| unsafe { ffi::dim_store_check(store, key.as_ptr(), &raw mut is_set) })?;
        Ok(is_set)
    }

    /// Calls a function of the C interface with the handle, one thread at a time.
    pub(super) fn with(&self, call: impl FnOnce(*mut c_void) -> *mut std::ffi::c_char) -> Result<(), TorchError> {
        // A thread that panicked here left the store itself whole.
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        ffi::check(call(handle.0))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the handle came from the C++ side and is freed once, here. What a failure would say is of no use any more.
        let _ = self.with(|store| unsafe { ffi::dim_store_free(store) });
    }
}

/// Copies a value to the `Vec<u8>` behind `state`.
///
/// # Safety
/// `state` is such a vector, used by nobody else during the call; `value` has `length` bytes.
unsafe extern "C" fn keep(state: *mut c_void, value: *const u8, length: usize) {
    if length > 0 {
        // SAFETY: `state` is the vector that `get` passed, which nobody else uses meanwhile; `value` has `length` bytes.
        unsafe { (*state.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(value, length)) };
    }
}

fn text(text: &str) -> Result<CString, TorchError> {
    CString::new(text).map_err(|_| TorchError::Argument {
        operation: "store",
        argument: "text",
        expected: "text without NUL".to_owned(),
        got: format!("{text:?}"),
    })
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
