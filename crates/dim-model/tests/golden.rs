//! The network against tensors of the published implementation (`golden/`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use dim_model::{
    verify::{self, File, Report, Setting},
    weights::WeightFile,
};

fn open(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(format!("{name}.safetensors"));
    let file = WeightFile::open(path).unwrap();
    let metadata = file.metadata().clone();
    File::new(file.read_all().unwrap(), metadata)
}

/// Every check holds, and there are at least `expected` of them: a file that checks nothing passes nothing.
fn assert_holds(report: &Report, expected: usize) {
    assert!(report.checks.len() >= expected, "{} checks, expected at least {expected}", report.checks.len());
    let failed: Vec<_> = report.checks.iter().filter(|check| check.error > check.tolerance).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), report.checks.len());
}

#[test]
fn unconditional_network_with_lateral_pads_matches() {
    assert_holds(&verify::network(&open("dim_tiny_uncond"), Setting::default()).unwrap(), 190);
}

#[test]
fn conditional_network_matches_with_skip_tuning() {
    assert_holds(&verify::network(&open("dim_tiny_cond"), Setting::default()).unwrap(), 300);
}

#[test]
fn network_with_rho_pads_matches_at_three_sizes() {
    assert_holds(&verify::network(&open("dim_tiny_rho"), Setting::default()).unwrap(), 190);
}

#[test]
fn network_with_two_skip_linears_matches() {
    assert_holds(&verify::network(&open("dim_tiny_twolinear"), Setting::default()).unwrap(), 190);
}

#[test]
fn skip_weights_match() {
    assert_holds(&verify::skip_weights(&open("schedule")).unwrap(), 6);
}

#[test]
fn full_size_s_matches_with_all_gradient_norms() {
    assert_holds(&verify::full_size(&open("full_S"), Setting::default()).unwrap(), 380);
}

#[test]
fn dit_matches_with_guidance() {
    assert_holds(&verify::transformer(&open("dit_tiny"), Setting::default()).unwrap(), 96);
}

#[test]
fn uvit_matches_with_classes_and_convolution() {
    assert_holds(&verify::transformer(&open("uvit_tiny"), Setting::default()).unwrap(), 140);
}

#[test]
fn uvit_matches_without_classes() {
    assert_holds(&verify::transformer(&open("uvit_tiny_uncond"), Setting::default()).unwrap(), 140);
}
