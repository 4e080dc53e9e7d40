//! The ADM U-Net against tensors of the published implementation (`golden/`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use dim_model::{
    verify::{self, File, Setting},
    weights::WeightFile,
};

#[test]
fn small_unet_matches_with_all_gradients_and_at_another_size() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/unet_tiny.safetensors");
    let file = WeightFile::open(path).unwrap();
    let metadata = file.metadata().clone();
    let file = File::new(file.read_all().unwrap(), metadata);
    let report = verify::unet(&file, Setting::default()).unwrap();
    let failed: Vec<_> = report.checks.iter().filter(|check| check.error > check.tolerance).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), report.checks.len());
    assert!(report.checks.len() > 380, "{} checks", report.checks.len());
}
