//! Where the time of some work goes, kernel by kernel, as libtorch's own profiler sees it.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;

use crate::{TorchError, ffi};

/// One kernel, copy or operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The kernel's or the operation's name, such as `aten::mm`.
    pub name: String,
    /// Whether a GPU did it; otherwise it is one of libtorch's operations, with all that it called.
    pub on_gpu: bool,
    /// Start, in nanoseconds since some moment that all events share.
    pub start_ns: u64,
    /// Duration in nanoseconds.
    pub duration_ns: u64,
}

/// A recording that goes on, one at a time in a process. Dropped, it ends and is lost.
pub struct Profiler {
    /// A recording belongs to the thread that began it.
    running: Option<PhantomData<*const ()>>,
}

impl Profiler {
    /// Begins to record what this thread does, and whatever GPUs do.
    ///
    /// # Errors
    /// An error of the profiler.
    pub fn start() -> Result<Self, TorchError> {
        // SAFETY: takes nothing, and returns a message or null.
        ffi::check(unsafe { ffi::dim_profile_start() })?;
        Ok(Self { running: Some(PhantomData) })
    }

    /// Ends the recording and returns every event in the order of their starts. What a GPU has not done by then is missing: wait for it before.
    ///
    /// # Errors
    /// An error of the profiler.
    pub fn stop(mut self) -> Result<Vec<Event>, TorchError> {
        self.end()
    }

    fn end(&mut self) -> Result<Vec<Event>, TorchError> {
        let mut events: Vec<Event> = Vec::new();
        if self.running.take().is_some() {
            // SAFETY: `push` takes a pointer to a vector of events, which this is and which lives until the call returns.
            ffi::check(unsafe { ffi::dim_profile_stop((&raw mut events).cast(), push) })?;
        }
        events.sort_by_key(|event| event.start_ns);
        Ok(events)
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        let _lost = self.end(); // whoever drops it is on the way out of an error
    }
}

/// Runs `work` and returns what it returns, with every event meanwhile in the order of their starts. `work` must wait for the GPU
/// before it returns. On another thread only what GPUs do is seen.
///
/// # Errors
/// What `work` returns, or an error of the profiler.
pub fn profile<T, E: From<TorchError>>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, Vec<Event>), E> {
    let profiler = Profiler::start()?;
    let result = work()?;
    Ok((result, profiler.stop()?))
}

/// Takes one event from the C++ side.
///
/// # Safety
/// `state` is the vector of [`Profiler::end`], used by nobody else during the call; `name` is a NUL-terminated string.
unsafe extern "C" fn push(state: *mut c_void, name: *const c_char, on_gpu: bool, start_ns: u64, duration_ns: u64) {
    // SAFETY: `Profiler::end` gave the pointer to its vector, which nobody else holds during the call; the name is a NUL-terminated
    // string that lives as long as the call.
    let (events, name) = unsafe { (&mut *state.cast::<Vec<Event>>(), CStr::from_ptr(name)) };
    events.push(Event { name: name.to_string_lossy().into_owned(), on_gpu, start_ns, duration_ns });
}
