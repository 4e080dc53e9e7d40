//! The trained network, for the tests that need it.

use std::path::Path;

use dim_eval::features::EfficientNetLite0;
use tch::Device;

/// EfficientNet-Lite0 with its weights; `None`, said aloud, where `cargo xtask setup` could not install them.
pub(crate) fn efficientnet_lite0() -> Option<EfficientNetLite0> {
    single_thread();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(EfficientNetLite0::INSTALLED);
    if !path.exists() {
        eprintln!("skipped: {} is not there; `cargo xtask setup` installs it", path.display());
        return None;
    }
    Some(EfficientNetLite0::load(path, Device::Cpu).unwrap())
}

/// Tests run side by side; threads that wait for each other would only spin.
pub(crate) fn single_thread() {
    tch::set_num_threads(1);
}
