//! The convolution on every instruction set that this processor has; through the public call only the widest one runs.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::causal_conv1d::reference;
use crate::lanes::{instruction_sets, run_on};

fn assert_close(what: &str, got: &[f32], truth: &[f64]) {
    let largest = truth.iter().fold(1e-30_f64, |largest, value| largest.max(value.abs()));
    for (got, truth) in got.iter().zip(truth) {
        assert!((f64::from(*got) - truth).abs() < 2e-6 * largest, "{what}: {got}, not {truth}");
    }
    assert_eq!(got.len(), truth.len());
}

#[test]
fn every_instruction_set_matches_reference() {
    for width in [3, 5] {
        let sizes = Sizes { batch: 2, token: 70, channel: 300, width };
        let Sizes { batch, token, channel, width } = sizes;
        let shapes = [vec![batch, token, channel], vec![channel, width], vec![channel], vec![batch, token, channel]];
        let wave = |seed: f32, i: usize| ((i as f32 + seed) * 1.7).sin() * 2.0;
        let numbers = |(seed, shape): (usize, &Vec<usize>)| {
            (0..shape.iter().product()).map(|i| wave(seed as f32 * 0.3, i)).collect::<Vec<f32>>()
        };
        let inputs: Vec<Vec<f32>> = shapes.iter().enumerate().map(numbers).collect();
        let exact: Vec<Vec<f64>> =
            inputs.iter().map(|values| values.iter().map(|&value| f64::from(value)).collect()).collect();
        let truth = reference::Inputs {
            sizes: reference::Sizes { batch, token, channel, width },
            x: &exact[0],
            weight: &exact[1],
            bias: Some(&exact[2]),
            silu: true,
            token_map: None,
        };
        let out = reference::forward(&truth).unwrap();
        let gradients = reference::backward(&truth, &exact[3]).unwrap();

        let view = |at: usize| TensorView::from_slice(&inputs[at], &shapes[at]).unwrap();
        let conv = CausalConv1d { x: view(0), weight: view(1), bias: Some(view(2)), silu: true, token_map: None };
        for set in instruction_sets() {
            let mut results: Vec<Vec<f32>> = inputs.iter().map(|values| vec![f32::NAN; values.len()]).collect();
            let mut views: Vec<TensorViewMut<'_>> = results
                .iter_mut()
                .zip(&shapes)
                .map(|(values, shape)| TensorViewMut::from_slice(values, shape).unwrap())
                .collect();
            let mut rows = views.iter_mut().map(RowsMut::new);
            let (grad_x, grad_weight, grad_bias) = (rows.next().unwrap(), rows.next().unwrap(), rows.next());
            run_on(set, forward::Forward { inputs: Inputs::new(&conv, sizes), out: rows.next().unwrap() });
            let (inputs, grad_out) = (Inputs::new(&conv, sizes), Rows::new(&view(3)));
            run_on(set, backward::Backward { inputs, grad_out, grad_x, grad_weight, grad_bias });
            let truths = [
                ("grad x", &gradients.x),
                ("grad weight", &gradients.weight),
                ("grad bias", &gradients.bias),
                ("out", &out),
            ];
            for (got, (what, truth)) in results.iter().zip(truths) {
                assert_close(&format!("{what} on {set}"), got, truth);
            }
        }
    }
}
