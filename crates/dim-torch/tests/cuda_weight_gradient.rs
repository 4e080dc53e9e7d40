//! Gradients of weights that operations add to the parameters' own sum, on a GPU, against products in f64. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

mod gpu;

use dim_torch::{
    ParameterSpec, Parameters,
    ops::{JoinWeights, joined_linear, linear},
};
use gpu::gpu;
use tch::{Device, Kind, Tensor, no_grad};

const ROWS: i64 = 203;
const OUTPUTS: i64 = 40;
/// Of both inputs; no row of either half begins where a vector does.
const INPUTS: [i64; 2] = [33, 24];

/// The largest difference, over the largest of what was expected.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let found = found.to_kind(Kind::Double).to_device(Device::Cpu);
    (found - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

#[test]
fn sums_of_two_passes_are_those_of_f64() {
    let Some((device, _alone)) = gpu("sums_of_two_passes_are_those_of_f64") else { return };
    let width = INPUTS.iter().sum::<i64>();
    for kind in [Kind::Float, Kind::BFloat16] {
        tch::manual_seed(3);
        let randn = |size: &[i64]| Tensor::randn(size, (Kind::Float, device)).to_kind(kind);
        let specs = [("alone", vec![OUTPUTS, width]), ("joined", vec![OUTPUTS, width]), ("bias", vec![OUTPUTS])];
        let specs = specs.map(|(name, shape)| ParameterSpec::new(name, &shape));
        let parameters = Parameters::zeros(&specs, device).unwrap();
        no_grad(|| parameters.values().copy_(&Tensor::randn(parameters.values().size(), (Kind::Float, device))));
        let weights = ["alone", "joined", "bias"].map(|name| parameters.weight(name).unwrap());
        let computed = weights.each_ref().map(|weight| weight.computed(kind).unwrap());
        let [alone, joined, bias] = [0, 1, 2].map(|index| weights[index].projection(&computed[index]));

        let inputs = INPUTS.map(|inputs| randn(&[ROWS, inputs]));
        let both = Tensor::cat(&inputs, 1);
        let gradients = [randn(&[ROWS, OUTPUTS]), randn(&[ROWS, OUTPUTS])];
        for _ in 0..2 {
            let out = linear(&both, alone, Some(bias)).unwrap();
            (out * &gradients[0]).sum(Kind::Float).backward();
            let join = JoinWeights::One { weight: joined, bias: weights[2].leaf() };
            let out = joined_linear(&inputs[0], &inputs[1], &join, &computed[2]).unwrap();
            (out * &gradients[1]).sum(Kind::Float).backward();
        }

        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double).to_device(Device::Cpu);
        for (index, gradient) in gradients.iter().enumerate() {
            let expected = double(gradient).tr().mm(&double(&both)) * 2.0;
            let error = error(&weights[index].leaf().grad(), &expected);
            // Products of bf16 are exact in f32; what rounds are sums of 203 terms.
            assert!(error < 1e-5, "{kind:?}, weight {index}: {error}");
        }
        let expected = gradients.iter().map(double).reduce(|one, other| one + other).unwrap();
        let expected = expected.sum_dim_intlist([0_i64].as_slice(), false, Kind::Double) * 2.0;
        let of_bias = error(&weights[2].leaf().grad(), &expected);
        assert!(of_bias < 1e-5, "{kind:?}, bias: {of_bias}");
    }
}
