//! The differentiable norm and residual against the same formulas written as libtorch operations.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_torch::ops::{GatedBranch, Norm, NormModulateInputs, gated_residual, norm_modulate};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 2;
const TOKENS: i64 = 13;
const CHANNELS: i64 = 21;
const RMS: Norm = Norm::Rms { eps: 1e-5 };
const LAYER: Norm = Norm::Layer { eps: 1e-6 };

/// Numbers without a pattern, a function of seed and shape: libtorch's generator is one for all tests that run at once.
fn draw(seed: i64, shape: &[i64]) -> Tensor {
    let steps = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
    ((steps + 1.0) * (12.9898 + 1.37 * seed as f64)).sin().view(shape).to_kind(Kind::Float) * 2.0
}

/// Fresh leaves, the same at every call: x, y, modulation, weight, bias.
fn leaves() -> [Tensor; 5] {
    let sequence: &[i64] = &[BATCH, TOKENS, CHANNELS];
    let shapes = [sequence, sequence, &[BATCH, 3, CHANNELS], &[CHANNELS], &[CHANNELS]];
    std::array::from_fn(|index| draw(index as i64, shapes[index]).set_requires_grad(true))
}

fn upstream(seed: i64) -> Tensor {
    draw(seed, &[BATCH, TOKENS, CHANNELS])
}

fn normed(r: &Tensor, norm: Norm) -> Tensor {
    match norm {
        Norm::None => r.shallow_clone(),
        Norm::Rms { eps } => r / (r.square().mean_dim(-1, true, Kind::Double) + f64::from(eps)).sqrt(),
        Norm::Layer { eps } => {
            let centred = r - r.mean_dim(-1, true, Kind::Double);
            let variance = centred.square().mean_dim(-1, true, Kind::Double);
            centred / (variance + f64::from(eps)).sqrt()
        }
    }
}

fn assert_close(what: &str, ours: &Tensor, expected: &Tensor) {
    let expected = expected.to_kind(Kind::Double);
    let error = (ours.to_kind(Kind::Double) - &expected).abs().max().double_value(&[]);
    let largest = expected.abs().max().double_value(&[]);
    assert!(error <= 5e-6 * largest, "{what}: {error} of {largest}");
}

/// Runs both and compares values and all gradients; a gradient that neither has is no difference.
fn assert_equal(
    what: &str,
    ours: impl Fn(&[Tensor; 5]) -> Vec<Tensor>,
    expected: impl Fn(&[Tensor; 5]) -> Vec<Tensor>,
) {
    let run = |function: &dyn Fn(&[Tensor; 5]) -> Vec<Tensor>| {
        let leaves = leaves();
        let outputs = function(&leaves);
        let losses = outputs.iter().zip(5..).map(|(out, seed)| (out * upstream(seed)).sum(Kind::Double));
        losses.reduce(|a, b| a + b).unwrap().backward();
        (outputs, leaves.map(|leaf| leaf.grad()))
    };
    let (ours, our_gradients) = run(&ours);
    let (expected, gradients) = run(&expected);
    assert_eq!(ours.len(), expected.len());
    for (index, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        assert_close(&format!("{what}, output {index}"), ours, expected);
    }
    for (index, (ours, expected)) in our_gradients.iter().zip(&gradients).enumerate() {
        assert_eq!(ours.defined(), expected.defined(), "{what}, gradient {index}");
        if expected.defined() {
            assert_close(&format!("{what}, gradient {index}"), ours, expected);
        }
    }
}

fn row(modulation: &Tensor, index: i64) -> Tensor {
    modulation.select(1, index)
}

#[test]
fn norm_modulate_and_all_its_gradients_match_libtorch() {
    for norm in [RMS, LAYER, Norm::None] {
        for stream_is_read in [true, false] {
            let outputs = |r: Tensor, out: Tensor| if stream_is_read { vec![out, r] } else { vec![out] };
            assert_equal(
                &format!("{norm:?}, stream read: {stream_is_read}"),
                |[x, y, modulation, weight, bias]| {
                    let (scale, shift) = (row(modulation, 1), row(modulation, 0));
                    let gate = row(modulation, 2);
                    let inputs = NormModulateInputs {
                        x,
                        branch: Some(GatedBranch { y, gate: Some(&gate), gate_offset: 1.0 }),
                        norm,
                        weight: Some(weight),
                        bias: Some(bias),
                        scale: Some(&scale),
                        shift: Some(&shift),
                    };
                    let (r, out) = norm_modulate(&inputs, Kind::Float).unwrap();
                    outputs(r, out)
                },
                |tensors| {
                    let [x, y, modulation, weight, bias] =
                        tensors.each_ref().map(|tensor| tensor.to_kind(Kind::Double));
                    let row = |index| modulation.narrow(1, index, 1);
                    let r = x + (row(2) + 1.0) * y;
                    let out = (normed(&r, norm) * weight + bias) * (row(1) + 1.0) + row(0);
                    outputs(r, out)
                },
            );
        }
    }
}

#[test]
fn without_a_branch_the_stream_that_is_returned_is_the_input() {
    assert_equal(
        "no branch",
        |[x, _, _, weight, _]| {
            let weight = Some(weight);
            let inputs =
                NormModulateInputs { x, branch: None, norm: RMS, weight, bias: None, scale: None, shift: None };
            let (r, out) = norm_modulate(&inputs, Kind::Float).unwrap();
            assert_eq!(r.data_ptr(), x.data_ptr());
            vec![out, r]
        },
        |[x, _, _, weight, _]| vec![normed(&x.to_kind(Kind::Double), RMS) * weight, x * 1.0],
    );
}

#[test]
fn gated_residual_and_its_gradients_match_libtorch() {
    assert_equal(
        "gated",
        |[x, y, modulation, ..]| {
            let gate = row(modulation, 2);
            vec![gated_residual(x, &GatedBranch { y, gate: Some(&gate), gate_offset: 1.0 }, Kind::Float).unwrap()]
        },
        |[x, y, modulation, ..]| vec![x + (modulation.narrow(1, 2, 1) + 1.0) * y],
    );
    assert_equal(
        "plain",
        |[x, y, ..]| vec![gated_residual(x, &GatedBranch { y, gate: None, gate_offset: 1.0 }, Kind::Float).unwrap()],
        |[x, y, ..]| vec![x + y],
    );
}

#[test]
fn only_wanted_gradients_are_made() {
    let [x, y, modulation, weight, _] = leaves();
    let (x, weight) = (x.detach(), weight.detach());
    let gate = row(&modulation, 2);
    let branch = Some(GatedBranch { y: &y, gate: Some(&gate), gate_offset: 0.0 });
    let inputs =
        NormModulateInputs { x: &x, branch, norm: LAYER, weight: Some(&weight), bias: None, scale: None, shift: None };
    norm_modulate(&inputs, Kind::Float).unwrap().1.square().sum(Kind::Float).backward();
    assert!(y.grad().defined() && modulation.grad().defined());
    assert!(!x.grad().defined() && !weight.grad().defined());
}

#[test]
fn what_does_not_fit_is_named() {
    let [x, y, _, weight, _] = leaves();
    let short = y.narrow(1, 0, TOKENS - 1);
    let branch = GatedBranch { y: &short, gate: None, gate_offset: 1.0 };
    let error = gated_residual(&x, &branch, Kind::Float).unwrap_err().to_string();
    assert!(error.contains("`y`") && error.contains("13"), "{error}");
    let half = weight.to_kind(Kind::Half);
    let inputs = NormModulateInputs {
        x: &x,
        branch: None,
        norm: RMS,
        weight: Some(&half),
        bias: None,
        scale: None,
        shift: None,
    };
    let error = norm_modulate(&inputs, Kind::Float).unwrap_err().to_string();
    assert!(error.contains("`weight` must be f32"), "{error}");
}
