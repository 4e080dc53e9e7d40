//! The trained network, for the tests that need it.

use std::path::Path;

use dim_eval::features::{EfficientNetLite, LiteSize};
use tch::Device;

/// An EfficientNet-Lite with its weights; `None`, said aloud, where they are not installed.
pub(crate) fn efficientnet_lite(size: LiteSize) -> Option<EfficientNetLite> {
    single_thread();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(size.installed());
    if !path.exists() {
        eprintln!("skipped: {} is not there; `{}` installs it", path.display(), size.installer());
        return None;
    }
    Some(EfficientNetLite::load(size, path, Device::Cpu).unwrap())
}

/// Tests run side by side; threads that wait for each other would only spin.
pub(crate) fn single_thread() {
    tch::set_num_threads(1);
}
