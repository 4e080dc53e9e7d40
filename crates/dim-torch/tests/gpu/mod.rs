//! Tests of the GPU, which skip aloud where there is none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dim_torch::cuda;
use tch::Device;

/// While a thread records a graph, no other may draw random numbers or wait for the device; and what one seeds, another
/// would draw.
static ALONE: Mutex<()> = Mutex::new(());

/// A GPU for this test alone, or why it is skipped; under `DIM_REQUIRE_CUDA` skipping is a failure.
pub(crate) fn gpu(test: &str) -> Option<(Device, MutexGuard<'static, ()>)> {
    if cuda::start() {
        return Some((Device::Cuda(0), ALONE.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    assert!(std::env::var_os("DIM_REQUIRE_CUDA").is_none(), "{test} needs a GPU");
    eprintln!("{test}: skipped: no CUDA device");
    None
}
