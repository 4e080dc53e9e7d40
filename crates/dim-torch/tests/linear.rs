//! The linear map with a copy of its weights against the same map by conversion and product.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_torch::{
    ParameterSpec, Parameters,
    ops::{Projection, linear},
};
use tch::{Device, Kind, Tensor, no_grad};

fn parameters() -> Parameters {
    tch::manual_seed(3);
    let specs = [ParameterSpec::new("weight", &[7, 5]), ParameterSpec::new("bias", &[7])];
    let parameters = Parameters::zeros(&specs, Device::Cpu).unwrap().with_bf16_copy();
    let _ = no_grad(|| parameters.values().normal_(0.0, 1.0));
    parameters
}

/// Output, and the gradients of x, weight and bias.
fn evaluate(map: impl Fn(&Tensor, &Parameters) -> Tensor) -> Vec<Tensor> {
    let parameters = parameters();
    let x = Tensor::randn([2, 3, 5], (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16).set_requires_grad(true);
    let out = map(&x, &parameters);
    let weights = Tensor::arange(out.numel() as i64, (Kind::Float, Device::Cpu)).sin().view_as(&out);
    (&out * weights.to_kind(Kind::BFloat16)).sum(Kind::Float).backward();
    let gradient = |name: &str| parameters.get(name).unwrap().grad();
    vec![out.detach(), x.grad(), gradient("weight"), gradient("bias")]
}

fn with_copy(x: &Tensor, parameters: &Parameters) -> Tensor {
    let (weight, bias) = (parameters.weight("weight").unwrap(), parameters.weight("bias").unwrap());
    let computed = [&weight, &bias].map(|weight| weight.computed(Kind::BFloat16).unwrap());
    let weight = Projection { weight: weight.leaf(), computed: &computed[0], sum: None };
    linear(x, weight, Some(Projection { weight: bias.leaf(), computed: &computed[1], sum: None })).unwrap()
}

#[test]
fn copy_gives_what_conversion_gives() {
    let found = evaluate(with_copy);
    let expected = evaluate(|x, parameters| {
        let bf16 = |name: &str| parameters.get(name).unwrap().to_kind(Kind::BFloat16);
        x.linear(&bf16("weight"), Some(&bf16("bias")))
    });
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.kind(), expected.kind());
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let error = (double(found) - double(expected)).abs().max().double_value(&[]);
        let largest = double(expected).abs().max().double_value(&[]);
        // The gradient of the bias is summed in f32 here, in bf16 there.
        let tolerance = if index == 3 { 2e-2 } else { 0.0 };
        assert!(largest > 0.0 && error <= tolerance * largest, "tensor {index}: {error}");
    }
}

#[test]
fn copy_follows_every_write_to_the_weights() {
    let parameters = parameters();
    let x = Tensor::ones([1, 5], (Kind::BFloat16, Device::Cpu));
    let before = no_grad(|| with_copy(&x, &parameters));
    let _ = no_grad(|| parameters.get("bias").unwrap().shallow_clone().g_add_scalar_(100.0));
    let after = no_grad(|| with_copy(&x, &parameters));
    let moved = (after - before).to_kind(Kind::Float);
    assert!((moved.min().double_value(&[]) - 100.0).abs() < 1.0 && moved.max().double_value(&[]) < 101.0);
}
