//! The references' gradients against central differences of the references, all in f64.

use dim_kernels::TokenMap;
use dim_kernels::causal_conv1d::reference as conv;
use dim_kernels::norm_modulate::{Norm, reference as norm};
use dim_kernels::selective_scan::reference as scan;

use crate::buffer::{permutation, random, to_f64};

/// Distance of the two points of a difference.
const STEP: f64 = 2e-5;

/// Largest error of a gradient, relative to its tensor's largest element.
const TOLERANCE: f64 = 2e-8;

fn draw(name: &str, len: usize, low: f32, high: f32) -> Vec<f64> {
    to_f64(&random(3, name, len, low, high))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Compares a gradient with differences of a loss, tensor by tensor.
fn assert_is_gradient(tensors: &[(&str, Vec<f64>, Vec<f64>)], loss: impl Fn(&[Vec<f64>]) -> f64) {
    let mut point: Vec<Vec<f64>> = tensors.iter().map(|(_, values, _)| values.clone()).collect();
    for (tensor, (name, values, gradient)) in tensors.iter().enumerate() {
        assert_eq!(values.len(), gradient.len(), "{name}");
        let largest = gradient.iter().fold(1e-3_f64, |largest, value| largest.max(value.abs()));
        for at in 0..values.len() {
            let mut at_distance = |distance: f64| {
                point[tensor][at] = values[at] + distance;
                let loss = loss(&point);
                point[tensor][at] = values[at];
                loss
            };
            // Two differences cancel the error of the third order.
            let near = (at_distance(STEP) - at_distance(-STEP)) / (2.0 * STEP);
            let far = (at_distance(2.0 * STEP) - at_distance(-2.0 * STEP)) / (4.0 * STEP);
            let slope = (4.0 * near - far) / 3.0;
            let error = (slope - gradient[at]).abs() / largest;
            assert!(error < TOLERANCE, "{name}[{at}]: gradient {}, difference {slope}", gradient[at]);
        }
    }
}

/// Checks every gradient of a scan, with everything that can be given.
fn check_scan(delta_softplus: bool) {
    let sizes = scan::Sizes { batch: 2, token: 5, channel: 3, state: 4 };
    let scan::Sizes { batch, token, channel, state } = sizes;
    let (sequence, matrix, states) = (batch * token * channel, batch * token * state, batch * channel * state);
    let map = TokenMap::new(permutation(11, token)).unwrap();
    let tensors = [
        ("u", draw("u", sequence, -2.0, 2.0)),
        ("delta", draw("delta", sequence, 0.1, 1.5)),
        ("a", draw("a", channel * state, -2.0, -0.1)),
        ("b", draw("b", matrix, -1.0, 1.0)),
        ("c", draw("c", matrix, -1.0, 1.0)),
        ("d", draw("d", channel, -1.0, 1.0)),
        ("z", draw("z", sequence, -3.0, 3.0)),
        ("delta_bias", draw("delta_bias", channel, 0.0, 0.5)),
        ("initial_state", draw("initial_state", states, -1.0, 1.0)),
    ];
    let (grad_out, grad_last_state) = (draw("grad_out", sequence, -1.0, 1.0), draw("last", states, -1.0, 1.0));
    fn inputs<'a>(
        sizes: scan::Sizes,
        delta_softplus: bool,
        map: &'a TokenMap,
        tensors: &[&'a [f64]; 9],
    ) -> scan::Inputs<'a> {
        let &[u, delta, a, b, c, d, z, delta_bias, initial_state] = tensors;
        scan::Inputs {
            sizes,
            u,
            delta,
            a,
            b,
            c,
            d: Some(d),
            z: Some(z),
            delta_bias: Some(delta_bias),
            delta_softplus,
            initial_state: Some(initial_state),
            token_map: Some(map),
        }
    }
    let all = inputs(sizes, delta_softplus, &map, &std::array::from_fn(|i| &tensors[i].1[..]));
    let gradients = scan::backward(&all, &grad_out, Some(&grad_last_state)).unwrap();
    let scan::Gradients { u, delta, a, b, c, d, z, delta_bias, initial_state } = gradients;
    let gradients = [u, delta, a, b, c, d, z, delta_bias, initial_state];
    let tensors: Vec<_> =
        tensors.iter().zip(gradients).map(|((name, values), gradient)| (*name, values.clone(), gradient)).collect();
    assert_is_gradient(&tensors, |point| {
        let all = inputs(sizes, delta_softplus, &map, &std::array::from_fn(|i| &point[i][..]));
        let outputs = scan::forward(&all).unwrap();
        dot(&outputs.out, &grad_out) + dot(&outputs.last_state, &grad_last_state)
    });
}

#[test]
fn scan_gradients_are_slopes_with_softplus() {
    check_scan(true);
}

#[test]
fn scan_gradients_are_slopes_without_softplus() {
    check_scan(false);
}

#[test]
fn convolution_gradients_are_slopes() {
    let sizes = conv::Sizes { batch: 2, token: 6, channel: 3, width: 4 };
    let conv::Sizes { batch, token, channel, width } = sizes;
    let sequence = batch * token * channel;
    let map = TokenMap::new(permutation(12, token)).unwrap();
    let grad_out = draw("grad_out", sequence, -1.0, 1.0);
    for silu in [true, false] {
        let (x, weight) = (draw("x", sequence, -2.0, 2.0), draw("weight", channel * width, -1.0, 1.0));
        let bias = draw("bias", channel, -1.0, 1.0);
        let run = |x: &[f64], weight: &[f64], bias: &[f64]| {
            let inputs = conv::Inputs { sizes, x, weight, bias: Some(bias), silu, token_map: Some(&map) };
            (conv::forward(&inputs).unwrap(), conv::backward(&inputs, &grad_out).unwrap())
        };
        let (_, gradients) = run(&x, &weight, &bias);
        let tensors = [("x", x, gradients.x), ("weight", weight, gradients.weight), ("bias", bias, gradients.bias)];
        assert_is_gradient(&tensors, |point| dot(&run(&point[0], &point[1], &point[2]).0, &grad_out));
    }
}

#[test]
fn norm_gradients_are_slopes() {
    let sizes = norm::Sizes { batch: 2, token: 3, channel: 5 };
    let norm::Sizes { batch, token, channel } = sizes;
    let (sequence, row) = (batch * token * channel, batch * channel);
    let (grad_out, grad_r) = (draw("grad_out", sequence, -1.0, 1.0), draw("grad_r", sequence, -1.0, 1.0));
    for kind in [Norm::None, Norm::Rms { eps: 1e-2 }, Norm::Layer { eps: 1e-2 }] {
        let tensors = [
            ("x", draw("x", sequence, -2.0, 2.0)),
            ("y", draw("y", sequence, -2.0, 2.0)),
            ("gate", draw("gate", row, -1.0, 1.0)),
            ("weight", draw("weight", channel, -1.0, 1.0)),
            ("bias", draw("bias", channel, -1.0, 1.0)),
            ("scale", draw("scale", row, -1.0, 1.0)),
            ("shift", draw("shift", row, -1.0, 1.0)),
        ];
        fn inputs<'a>(sizes: norm::Sizes, norm: Norm, tensors: &[&'a [f64]; 7]) -> norm::Inputs<'a> {
            let &[x, y, gate, weight, bias, scale, shift] = tensors;
            norm::Inputs {
                sizes,
                x,
                y: Some(y),
                gate: Some(gate),
                gate_offset: 1.0,
                norm,
                weight: Some(weight),
                bias: Some(bias),
                scale: Some(scale),
                shift: Some(shift),
            }
        }
        let all = inputs(sizes, kind, &std::array::from_fn(|i| &tensors[i].1[..]));
        let norm::Gradients { x, y, gate, weight, bias, scale, shift } =
            norm::backward(&all, Some(&grad_out), Some(&grad_r)).unwrap();
        let gradients = [x, y, gate, weight, bias, scale, shift];
        let tensors: Vec<_> =
            tensors.iter().zip(gradients).map(|((name, values), gradient)| (*name, values.clone(), gradient)).collect();
        assert_is_gradient(&tensors, |point| {
            let outputs = norm::forward(&inputs(sizes, kind, &std::array::from_fn(|i| &point[i][..]))).unwrap();
            dot(&outputs.out, &grad_out) + dot(&outputs.r, &grad_r)
        });
    }
}
