//! The autoencoder against tensors of the published implementation (`golden/`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, path::Path};

use dim_model::{
    Precision,
    verify::{self, File, Setting},
    weights::WeightFile,
};

/// Every check holds, there are `expected` of them, and no key of the file is left out: a file that checks nothing passes
/// nothing.
fn assert_holds(name: &str, precision: Precision, expected: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(format!("{name}.safetensors"));
    let file = WeightFile::open(path).unwrap();
    let metadata = file.metadata().clone();
    let keys: BTreeSet<String> = file.entries().iter().map(|entry| entry.name.clone()).collect();
    let setting = Setting { precision, ..Setting::default() };
    let report = verify::autoencoder(&File::new(file.read_all().unwrap(), metadata), setting).unwrap();

    for check in report.checks.iter().filter(|check| !check.tensor.starts_with("weights.")) {
        println!("{name} {}: {:.3} of its tolerance", check.tensor, check.error / check.tolerance);
    }
    let failed: Vec<_> = report.checks.iter().filter(|check| check.error > check.tolerance).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), report.checks.len());
    assert_eq!(report.checks.len(), expected);
    let seen = report.checks.iter().map(|check| &check.tensor).chain(&report.inputs).cloned().collect();
    assert_eq!(keys.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn small_network_matches_in_both_directions() {
    assert_holds("vae_tiny", Precision::F32, 199);
}

#[test]
fn published_network_with_computed_weights_matches() {
    assert_holds("full_vae", Precision::F32, 8);
}
