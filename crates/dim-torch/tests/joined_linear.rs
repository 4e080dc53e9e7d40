//! The joined map against a map of the inputs side by side, and against the sum of two maps.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_torch::ops::{JoinWeights, Projection, joined_linear};
use tch::{Device, Kind, Tensor};

const FIRST: i64 = 5;
const SECOND: i64 = 3;
const OUTPUTS: i64 = 7;

/// Both inputs, weight and bias of one map, weights and biases of two.
fn leaves() -> Vec<Tensor> {
    let shapes: [&[i64]; 8] = [
        &[2, 4, FIRST],
        &[2, 4, SECOND],
        &[OUTPUTS, FIRST + SECOND],
        &[OUTPUTS],
        &[OUTPUTS, FIRST],
        &[OUTPUTS, SECOND],
        &[OUTPUTS],
        &[OUTPUTS],
    ];
    let leaf = |(index, shape): (usize, &&[i64])| {
        let count: i64 = shape.iter().product();
        let numbers = Tensor::arange(count, (Kind::Float, Device::Cpu)) * (0.7 + index as f64);
        numbers.sin().view(*shape).set_requires_grad(true)
    };
    shapes.iter().enumerate().map(leaf).collect()
}

/// The output, and the gradients of the leaves of which it is made.
fn evaluate(used: &[usize], map: impl Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
    let leaves = leaves();
    let out = map(&leaves);
    (&out * Tensor::arange(out.numel() as i64, (Kind::Float, Device::Cpu)).cos().view_as(&out))
        .sum(Kind::Float)
        .backward();
    std::iter::once(out.detach()).chain(used.iter().map(|&index| leaves[index].grad())).collect()
}

fn assert_same(found: &[Tensor], expected: &[Tensor]) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.size(), expected.size());
        let error = (found - expected).abs().max().double_value(&[]);
        assert!(error < 1e-5 && expected.abs().max().double_value(&[]) > 0.1, "tensor {index}: {error}");
    }
}

fn projection(weight: &Tensor) -> Projection<'_> {
    Projection { weight, computed: weight, sum: None }
}

#[test]
fn one_weight_is_a_map_of_both_side_by_side() {
    let used = [0, 1, 2, 3];
    let found = evaluate(&used, |leaves| {
        let weights = JoinWeights::One { weight: projection(&leaves[2]), bias: &leaves[3] };
        joined_linear(&leaves[0], &leaves[1], &weights, &leaves[3]).unwrap()
    });
    let expected =
        evaluate(&used, |leaves| Tensor::cat(&[&leaves[0], &leaves[1]], -1).linear(&leaves[2], Some(&leaves[3])));
    assert_same(&found, &expected);
}

#[test]
fn two_weights_are_two_maps_that_are_added() {
    let used = [0, 1, 4, 5, 6, 7];
    let found = evaluate(&used, |leaves| {
        let weights = JoinWeights::Two {
            weights: [projection(&leaves[4]), projection(&leaves[5])],
            biases: [&leaves[6], &leaves[7]],
        };
        joined_linear(&leaves[0], &leaves[1], &weights, &(&leaves[6] + &leaves[7])).unwrap()
    });
    let expected = evaluate(&used, |leaves| {
        leaves[0].linear(&leaves[4], Some(&leaves[6])) + leaves[1].linear(&leaves[5], Some(&leaves[7]))
    });
    assert_same(&found, &expected);
}

#[test]
fn inputs_that_do_not_fit_are_an_error() {
    let leaves = leaves();
    let weights = JoinWeights::One { weight: projection(&leaves[4]), bias: &leaves[3] };
    assert!(joined_linear(&leaves[0], &leaves[1], &weights, &leaves[3]).is_err());
}
