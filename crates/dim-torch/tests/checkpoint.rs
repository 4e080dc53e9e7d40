//! A checkpointed part of a network against the plain one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dim_torch::{ParameterSpec, Parameters, TorchError, checkpoint};
use tch::{Device, Kind, Tensor, no_grad};

fn parameters() -> Parameters {
    tch::manual_seed(1);
    let parameters = Parameters::zeros(&[ParameterSpec::new("weight", &[4, 4])], Device::Cpu).unwrap();
    let _ = no_grad(|| parameters.values().normal_(0.0, 1.0));
    parameters
}

/// Two outputs of two inputs and a parameter.
fn segment(weight: &Tensor, inputs: &[Tensor]) -> Vec<Tensor> {
    let hidden = inputs[0].linear(weight, None::<&Tensor>).silu();
    vec![&hidden * &inputs[1], hidden.square()]
}

/// Outputs of a chain of two segments, the gradients of its inputs and of the parameter, and how often a segment ran.
fn evaluate(plain: bool, second_input_needs_gradient: bool) -> (Vec<Tensor>, usize) {
    let parameters = parameters();
    let leaf = |shape: &[i64], needed: bool| Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(needed);
    let (x, scale) = (leaf(&[3, 4], true), leaf(&[3, 4], second_input_needs_gradient));
    let runs = Arc::new(AtomicUsize::new(0));
    let run = |inputs: &[&Tensor]| {
        let (weight, count) = (parameters.get("weight").unwrap(), Arc::clone(&runs));
        let counted = move |inputs: &[Tensor]| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, TorchError>(segment(&weight, inputs))
        };
        if plain {
            counted(&inputs.iter().map(|input| input.shallow_clone()).collect::<Vec<_>>()).unwrap()
        } else {
            checkpoint(inputs, counted).unwrap()
        }
    };
    let first = run(&[&x, &scale]);
    let second = run(&[&first[0], &scale]);
    // One of the second's outputs is not used, one of the first's by two.
    (&second[0] * &first[1]).sum(Kind::Float).backward();
    let mut results = vec![second[0].detach(), x.grad(), parameters.gradients().unwrap()];
    if second_input_needs_gradient {
        results.push(scale.grad());
    }
    (results, runs.load(Ordering::Relaxed))
}

#[test]
fn outputs_and_gradients_are_those_of_the_plain_call() {
    for needed in [true, false] {
        let ((expected, once), (found, twice)) = (evaluate(true, needed), evaluate(false, needed));
        assert_eq!((once, twice), (2, 4), "each segment runs once more");
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(expected.abs().max().double_value(&[]) > 0.0);
            assert!(found.allclose(expected, 1e-6, 1e-7, false), "tensor {index}");
        }
    }
}

#[test]
fn error_of_the_second_run_becomes_that_of_backward() {
    let x = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let runs = AtomicUsize::new(0);
    let outputs = checkpoint(&[&x], move |inputs| match runs.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(vec![&inputs[0] * 2.0]),
        _ => Err(TorchError::Libtorch("not a second time".to_owned())),
    });
    let error = outputs.unwrap()[0].sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(error.contains("not a second time"), "{error}");
}
