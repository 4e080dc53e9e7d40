//! What the bound of bf16 accepts and what it does not, shown on the CPU with plain evaluations of sound and of wrong networks.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::verify::Check;
use crate::weights::WeightFile;

const FILES: [&str; 4] = ["dim_tiny_uncond", "dim_tiny_cond", "dim_tiny_rho", "dim_tiny_twolinear"];
const SETTING: Setting = Setting { device: Device::Cpu, precision: Precision::Bf16Plain };

fn open(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(format!("{name}.safetensors"));
    let file = WeightFile::open(path).unwrap();
    let metadata = file.metadata().clone();
    File::new(file.read_all().unwrap(), metadata)
}

fn plain(file: &File) -> Dim {
    load(file, Device::Cpu).unwrap().with_precision(Precision::Bf16Plain)
}

/// The checks of a network in bf16 with the inputs of `file`, against those of the plain evaluation of `sound`.
fn checks(network: &Dim, file: &File, sound: &File) -> Vec<Check> {
    let computed = evaluate(network, file, SETTING).unwrap();
    let reference = evaluate(&plain(sound), sound, SETTING).unwrap();
    let mut report = Report::default();
    compare::in_bf16(&computed, &reference, &mut report).unwrap();
    report.checks
}

/// A network whose parameter `name` was changed.
fn changed(file: &File, name: &str, change: impl Fn(&Tensor) -> Tensor) -> Dim {
    let network = plain(file);
    let parameter = network.parameters().get(name).unwrap();
    no_grad(|| parameter.shallow_clone().copy_(&change(&parameter)));
    network
}

/// Names of the checks that fail, and how many there are.
fn failures(checks: &[Check]) -> (Vec<&str>, usize) {
    let failed = checks.iter().filter(|check| check.error > check.tolerance).map(|check| check.tensor.as_str());
    (failed.collect(), checks.len())
}

#[test]
fn sound_evaluation_that_rounds_otherwise_passes() {
    for name in FILES {
        let file = open(name);
        for nudge in [1e-6, -1e-6, 3e-7] {
            // The nudge itself is far below bf16, but every later sum may round to the other side.
            let mut nudged = open(name);
            let x = nudged.tensors.get_mut("x").unwrap();
            *x = &*x * (1.0 + nudge);
            let checks = checks(&plain(&nudged), &nudged, &file);
            let (failed, all) = failures(&checks);
            assert!(all > 100 && failed.iter().all(|name| is_input(name)), "{name}: {failed:?}");
        }
    }
}

/// What a changed input changes beyond the tolerance of f32 by itself.
fn is_input(name: &str) -> bool {
    ["patch_embed", "tokens_with_pos", "prepare_sequence"].iter().any(|key| name.ends_with(key))
}

#[test]
fn truncation_of_weights_instead_of_rounding_fails() {
    for name in FILES {
        let file = open(name);
        let network = plain(&file);
        let wide = |name: &str| name.contains("_proj.weight") || name.contains("long_skip");
        for (_, parameter) in network.parameters().iter().filter(|(spec, _)| wide(&spec.name)) {
            let upper_half = parameter.detach().view_dtype(Kind::Int).bitwise_and(-65536_i64).view_dtype(Kind::Float);
            no_grad(|| parameter.shallow_clone().copy_(&upper_half));
        }
        let checks = checks(&network, &file, &file);
        let (failed, _) = failures(&checks);
        assert!(!failed.is_empty(), "{name}: not noticed");
    }
}

#[test]
fn term_that_is_wrong_by_a_few_hundredths_in_one_block_fails() {
    for name in FILES {
        let file = open(name);
        let network = changed(&file, "blocks.2.mamba.d", |d| d * 1.03);
        let checks = checks(&network, &file, &file);
        let (failed, _) = failures(&checks);
        assert!(failed.contains(&"mid.block.2.hidden"), "{name}: {failed:?}");
    }
}

#[test]
fn wrong_terms_fail_almost_everywhere() {
    for name in FILES {
        let file = open(name);
        for (parameter, change) in [
            ("blocks.2.mamba.conv1d.weight", (|taps: &Tensor| taps.flip([1])) as fn(&Tensor) -> Tensor),
            ("blocks.2.mamba.dt_proj.bias", Tensor::zeros_like),
        ] {
            let checks = checks(&changed(&file, parameter, change), &file, &file);
            let (failed, all) = failures(&checks);
            assert!(failed.len() > all / 2 && failed.contains(&"out"), "{name}, {parameter}: {failed:?}");
        }
    }
}
