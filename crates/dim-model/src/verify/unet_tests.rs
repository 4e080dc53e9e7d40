//! Mistakes that keep all shapes, each made by rearranging weights, must fail.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::{verify::Check, weights::WeightFile};

fn open() -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/unet_tiny.safetensors");
    let file = WeightFile::open(path).unwrap();
    let metadata = file.metadata().clone();
    File::new(file.read_all().unwrap(), metadata)
}

/// The checks, in f32, of the file's network with `change` made to the parameters whose names end in `suffix`.
fn checks(file: &File, suffix: &str, change: impl Fn(&Tensor) -> Tensor) -> Vec<Check> {
    let network = load(file, Device::Cpu).unwrap();
    let mut changed = 0;
    for (_, tensor) in network.parameters().iter().filter(|(spec, _)| spec.name.ends_with(suffix)) {
        no_grad(|| tensor.shallow_clone().copy_(&change(&tensor.copy())));
        changed += 1;
    }
    assert!(changed > 0, "{suffix}");
    let mut report = Report::default();
    compare::in_f32(&evaluate(&network, file, Device::Cpu).unwrap(), &mut report);
    report.checks
}

/// That each of `tensors` is wrong by at least ten times its tolerance.
fn assert_far_off(checks: &[Check], tensors: &[&str]) {
    for name in tensors {
        let check = checks.iter().find(|check| check.tensor == *name).unwrap();
        assert!(check.error > 10.0 * check.tolerance, "not noticed: {check:?}");
    }
}

/// The two halves along `dimension`, exchanged.
fn halves_exchanged(tensor: &Tensor, dimension: i64) -> Tensor {
    tensor.roll([tensor.size()[usize::try_from(dimension).unwrap()] / 2], [dimension])
}

#[test]
fn unchanged_network_holds() {
    let checks = checks(&open(), "out.0.bias", Tensor::copy);
    let failed: Vec<_> = checks.iter().filter(|check| check.error > check.tolerance).collect();
    assert!(failed.is_empty() && checks.len() > 150, "{failed:#?}");
}

#[test]
fn sines_before_cosines_are_noticed() {
    let checks = checks(&open(), "time_embed.0.weight", |weight| halves_exchanged(weight, 1));
    assert_far_off(&checks, &["mid.emb", "mid.input_blocks.1", "out", "alt.out"]);
}

#[test]
fn shift_before_scale_is_noticed() {
    for part in ["emb_layers.1.weight", "emb_layers.1.bias"] {
        let checks = checks(&open(), part, |parameter| halves_exchanged(parameter, 0));
        assert_far_off(&checks, &["mid.input_blocks.1", "out", "alt.out"]);
    }
}

#[test]
fn scale_without_the_one_is_noticed() {
    let minus_one = |bias: &Tensor| {
        let half = bias.size()[0] / 2;
        Tensor::cat(&[bias.narrow(0, 0, half) - 1.0, bias.narrow(0, half, half)], 0)
    };
    assert_far_off(&checks(&open(), "emb_layers.1.bias", minus_one), &["mid.input_blocks.1", "out", "alt.out"]);
}

#[test]
fn queries_keys_and_values_outside_heads_are_noticed() {
    // As if the network read the new order, [query, key or value][head], from the same convolution.
    let new_order = |parameter: &Tensor| {
        let rest = parameter.size()[1..].to_vec();
        let split = parameter.view([&[3, -1, 16], rest.as_slice()].concat().as_slice());
        split.transpose(0, 1).reshape(parameter.size())
    };
    for part in ["qkv.weight", "qkv.bias"] {
        assert_far_off(
            &checks(&open(), part, new_order),
            &["mid.input_blocks.3", "mid.middle_block", "out", "alt.out"],
        );
    }
}

#[test]
fn another_scale_of_the_attention_is_noticed() {
    // Queries, the first 16 of each head's 48 channels, 5 % too large.
    let louder = |weight: &Tensor| {
        let queries = Tensor::ones_like(weight).view([-1, 48, 64]);
        let _ = queries.narrow(1, 0, 16).fill_(1.05);
        weight * queries.view_as(weight)
    };
    assert_far_off(&checks(&open(), "qkv.weight", louder), &["mid.input_blocks.3", "mid.middle_block", "out"]);
}

#[test]
fn skip_before_stream_is_noticed() {
    // Both have 64 channels there: exchanging what reads them exchanges them.
    for (part, dimension) in [("in_layers.0.weight", 0), ("in_layers.2.weight", 1), ("skip_connection.weight", 1)] {
        let name = format!("output_blocks.0.0.{part}");
        let checks = checks(&open(), &name, |parameter| halves_exchanged(parameter, dimension));
        assert_far_off(&checks, &["mid.output_blocks.0", "out", "alt.out"]);
    }
}

#[test]
fn sound_evaluation_in_bf16_passes() {
    let report = unet(&open(), Setting { device: Device::Cpu, precision: Precision::Bf16 }).unwrap();
    let failed: Vec<_> = report.checks.iter().filter(|check| check.error > check.tolerance).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
