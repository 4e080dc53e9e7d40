//! Distances and features against tensors that published implementations computed (`golden/`).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{collections::BTreeSet, path::Path};

use dim_eval::{features::LiteSize, verify};
use dim_model::{
    verify::{File, Report},
    weights::WeightFile,
};
use tch::Device;

fn golden(name: &str) -> (File, BTreeSet<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(format!("{name}.safetensors"));
    let file = WeightFile::open(path).unwrap();
    let keys = file.entries().iter().map(|entry| entry.name.clone()).collect();
    let metadata = file.metadata().clone();
    (File::new(file.read_all().unwrap(), metadata), keys)
}

/// Every check holds, there are `expected` of them, and no key of the file is left out.
fn assert_holds(report: &Report, keys: &BTreeSet<String>, expected: usize) {
    let failed: Vec<_> = report.checks.iter().filter(|check| check.error > check.tolerance).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), report.checks.len());
    assert_eq!(report.checks.len(), expected);
    let seen = report.checks.iter().map(|check| &check.tensor).chain(&report.inputs).cloned().collect();
    assert_eq!(keys.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn moments_and_distances_are_those_of_scipy() {
    let (file, keys) = golden("fid");
    // Two distances of four cases, and four moments and the exact distance of the three whose samples are known.
    assert_holds(&verify::frechet(&file).unwrap(), &keys, 4 * 2 + 3 * 5);
}

#[test]
fn features_are_those_of_the_published_network() {
    let Some(network) = common::efficientnet_lite(LiteSize::Lite0) else { return };
    let (file, keys) = golden("efficientnet_lite0");
    assert_holds(&verify::efficientnet_lite0(&file, &network).unwrap(), &keys, 21);
}

#[test]
fn larger_networks_are_the_published_ones() {
    common::single_thread();
    for (size, name) in [(LiteSize::Lite1, "efficientnet_lite1"), (LiteSize::Lite2, "efficientnet_lite2")] {
        let (file, mut keys) = golden(name);
        let trained = common::efficientnet_lite(size);
        // Five probes, parameters, the stem and 21 blocks, features, logits; both again with trained weights.
        let expected = if trained.is_some() { 32 } else { 30 };
        if trained.is_none() {
            keys.retain(|key| !key.starts_with("trained."));
        }
        assert_holds(&verify::efficientnet_lite(&file, size, trained.as_ref(), Device::Cpu).unwrap(), &keys, expected);
    }
}

#[test]
fn inception_is_that_of_pytorch_fid() {
    common::single_thread();
    let (file, keys) = golden("full_inception");
    assert_holds(&verify::inception(&file, Device::Cpu).unwrap(), &keys, 31);
}

#[test]
fn small_dinov2_is_that_of_transformers() {
    common::single_thread();
    for name in ["dinov2_tiny", "dinov2_tiny_swiglu"] {
        let (file, keys) = golden(name);
        // Six probes, parameters, pixels, positions; two numbers of the tokens and behind each of two blocks; features twice.
        assert_holds(&verify::dinov2(&file, Device::Cpu).unwrap(), &keys, 9 + 2 * 3 + 2);
    }
}

#[test]
fn metrics_are_those_of_the_published_packages() {
    let (file, keys) = golden("metrics");
    assert_holds(&verify::metrics(&file, Device::Cpu).unwrap(), &keys, 15);
}
