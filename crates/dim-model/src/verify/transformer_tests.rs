//! What the checks of the transformers notice: mistakes that a port is likely to make, as exchanged rows and columns of weights.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::weights::WeightFile;

fn open(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(format!("{name}.safetensors"));
    let file = WeightFile::open(path).unwrap();
    let metadata = file.metadata().clone();
    File::new(file.read_all().unwrap(), metadata)
}

/// The checks of the file's network after `change` to its parameters; which of them fail.
fn failures(name: &str, change: impl Fn(&Parameters)) -> Vec<String> {
    let file = open(name);
    let config = network_of(file.metadata("config").unwrap()).unwrap();
    let setting = Setting::default();
    let network = load(&config, &file, setting, &mut Report::default()).unwrap();
    no_grad(|| change(network.parameters()));
    let mut report = Report::default();
    compare::in_f32(&evaluate(&network, &file, setting.device).unwrap(), &mut report);
    report.checks.into_iter().filter(|check| check.error > check.tolerance).map(|check| check.tensor).collect()
}

/// Exchanges two equal pieces of dimension `dim` of a parameter.
fn exchange(parameters: &Parameters, name: &str, dim: i64, pieces: i64, one: usize, other: usize) {
    let parameter = parameters.get(name).unwrap();
    let mut parts = parameter.detach().copy().chunk(pieces, dim);
    parts.swap(one, other);
    parameter.shallow_clone().copy_(&Tensor::cat(&parts, dim));
}

#[test]
fn sound_networks_pass() {
    for name in ["dit_tiny", "uvit_tiny", "uvit_tiny_uncond"] {
        assert_eq!(failures(name, |_| {}), [""; 0], "{name}");
    }
}

#[test]
fn exchanged_parts_fail_in_output_and_gradients() {
    type Change = fn(&Parameters);
    let cases: [(&str, &str, Change); 5] = [
        ("dit_tiny", "shift and scale", |parameters| {
            exchange(parameters, "blocks.1.adaLN_modulation.1.weight", 0, 6, 0, 1);
        }),
        ("dit_tiny", "the gates", |parameters| {
            exchange(parameters, "blocks.1.adaLN_modulation.1.weight", 0, 6, 2, 5);
        }),
        ("dit_tiny", "queries and values", |parameters| {
            exchange(parameters, "blocks.0.attn.qkv.weight", 0, 3, 0, 2);
        }),
        ("uvit_tiny", "stream and skip", |parameters| {
            exchange(parameters, "out_blocks.0.skip_linear.weight", 1, 2, 0, 1);
        }),
        ("uvit_tiny_uncond", "sines and cosines", |parameters| {
            exchange(parameters, "time_embed.0.weight", 1, 2, 0, 1);
        }),
    ];
    for (name, what, change) in cases {
        let failed = failures(name, change);
        let gradients = failed.iter().filter(|tensor| tensor.starts_with("grads.")).count();
        assert!(failed.iter().any(|tensor| tensor == "out") && gradients > 20, "{name}, {what}: {failed:?}");
    }
}
