//! A GPU to test on, or a loud skip; device memory with guards; comparison with the f64 reference.
#![allow(unsafe_code, reason = "device memory")]
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, unused_imports, reason = "every test file uses a part")]

mod memory;
mod numbers;

pub use memory::{DeviceTensor, Placement};
pub use numbers::{assert_close, permutation, random};

use std::ffi::c_void;
use std::io::Write as _;

use cudarc::driver::{result, sys};
use dim_kernels::Queue;

/// The first CUDA device, with its primary context current on this thread.
pub struct Gpu {
    pub stream: *mut c_void,
}

/// Finds the GPU; without one, says so with the test's name and returns None, or panics where `DIM_REQUIRE_CUDA=1` forbids skipping.
pub fn gpu() -> Option<Gpu> {
    // SAFETY: opens the driver's library, whose initialisers have no preconditions.
    let present = unsafe { sys::is_culib_present() } && result::init().is_ok();
    if !present || result::device::get_count().unwrap_or(0) == 0 {
        let required = std::env::var("DIM_REQUIRE_CUDA").is_ok_and(|value| value == "1");
        assert!(!required, "DIM_REQUIRE_CUDA=1, but there is no CUDA device");
        let thread = std::thread::current();
        // Straight to stderr: the test harness would swallow what the print macros write in a passing test.
        let _ = writeln!(std::io::stderr(), "{}: skipped: no CUDA device", thread.name().unwrap_or("a test"));
        return None;
    }
    let device = result::device::get(0).unwrap();
    // SAFETY: the device exists; its primary context is kept until the process ends.
    unsafe { result::ctx::set_current(result::primary_ctx::retain(device).unwrap()).unwrap() };
    let stream = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
    Some(Gpu { stream: stream.cast() })
}

impl Gpu {
    pub fn queue(&self) -> Queue {
        Queue::Cuda { ordinal: 0, stream: self.stream }
    }

    /// Waits for all work, and fails if any of it went wrong.
    pub fn finish(&self) {
        result::ctx::synchronize().unwrap();
    }
}
