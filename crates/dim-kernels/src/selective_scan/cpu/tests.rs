//! The scan on every instruction set that this processor has; through the public call only the widest one runs.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::lanes::{instruction_sets, run_on};
use crate::selective_scan::reference;

/// Numbers in a range that any machine repeats.
fn numbers(seed: u32, len: usize, low: f32, high: f32) -> Vec<f32> {
    let hash = |i: u32| (i ^ seed << 20).wrapping_mul(0x9e37_79b9).rotate_left(15).wrapping_mul(0x85eb_ca6b) >> 8;
    (0..len as u32).map(|i| low + (high - low) * hash(i) as f32 / (1 << 24) as f32).collect()
}

fn assert_close(what: &str, got: &[f32], truth: &[f64]) {
    let largest = truth.iter().fold(1e-30_f64, |largest, value| largest.max(value.abs()));
    for (got, truth) in got.iter().zip(truth) {
        assert!((f64::from(*got) - truth).abs() < 5e-6 * largest, "{what}: {got}, not {truth}");
    }
    assert_eq!(got.len(), truth.len());
}

#[test]
fn every_instruction_set_matches_reference() {
    for state in [16, 27] {
        let sizes = Sizes { batch: 2, token: 20, channel: 90, state };
        let Sizes { batch, token, channel, state } = sizes;
        let [sequence, matrix] = [[batch, token, channel], [batch, token, state]];
        let [states, a_shape] = [[batch, channel, state], [1, channel, state]];
        let len = |shape: [usize; 3]| shape.iter().product();
        let inputs = [
            (numbers(1, len(sequence), -2.0, 2.0), sequence),
            (numbers(2, len(sequence), -4.0, 1.0), sequence),
            (numbers(3, len(a_shape), -4.0, -0.1), a_shape),
            (numbers(4, len(matrix), -1.0, 1.0), matrix),
            (numbers(5, len(matrix), -1.0, 1.0), matrix),
            (numbers(6, channel, -1.0, 1.0), [1, 1, channel]),
            (numbers(7, len(sequence), -4.0, 4.0), sequence),
            (numbers(8, channel, 0.0, 0.5), [1, 1, channel]),
            (numbers(9, len(states), -1.0, 1.0), states),
            (numbers(10, len(sequence), -1.0, 1.0), sequence),
            (numbers(11, len(states), -1.0, 1.0), states),
        ];
        let exact =
            inputs.each_ref().map(|(values, _)| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
        let truth = reference::Inputs {
            sizes: reference::Sizes { batch, token, channel, state },
            u: &exact[0],
            delta: &exact[1],
            a: &exact[2],
            b: &exact[3],
            c: &exact[4],
            d: Some(&exact[5]),
            z: Some(&exact[6]),
            delta_bias: Some(&exact[7]),
            delta_softplus: true,
            initial_state: Some(&exact[8]),
            token_map: None,
        };
        let outputs = reference::forward(&truth).unwrap();
        let gradients = reference::backward(&truth, &exact[9], Some(&exact[10])).unwrap();
        let views = inputs.each_ref().map(|(values, shape)| TensorView::from_slice(values, shape).unwrap());
        let [u, delta, a, b, c, d, z, delta_bias, initial_state, grad_out, grad_last_state] =
            views.each_ref().map(Rows::new);
        let (d, z, delta_bias, initial_state) = (Some(d), Some(z), Some(delta_bias), Some(initial_state));
        let order = Order::new(None);
        let all = Inputs { sizes, order, u, delta, a, b, c, d, z, delta_bias, delta_softplus: true, initial_state };

        for set in instruction_sets() {
            let mut results = inputs.each_ref().map(|(values, shape)| (vec![f32::NAN; values.len()], *shape));
            let mut views =
                results.each_mut().map(|(values, shape)| TensorViewMut::from_slice(values, &shape[..]).unwrap());
            let [u, delta, a, b, c, d, z, delta_bias, initial_state, out, last_state] =
                views.each_mut().map(RowsMut::new);
            run_on(set, forward::Forward { inputs: all, out, last_state: Some(last_state) });
            let (d, z, delta_bias, initial_state) = (Some(d), Some(z), Some(delta_bias), Some(initial_state));
            let gradients_of = backward::Gradients { u, delta, a, b, c, d, z, delta_bias, initial_state };
            let grad_last_state = Some(grad_last_state);
            run_on(set, backward::Backward { inputs: all, grad_out, grad_last_state, gradients: gradients_of });

            let truths = [
                ("grad u", &gradients.u),
                ("grad delta", &gradients.delta),
                ("grad a", &gradients.a),
                ("grad b", &gradients.b),
                ("grad c", &gradients.c),
                ("grad d", &gradients.d),
                ("grad z", &gradients.z),
                ("grad delta_bias", &gradients.delta_bias),
                ("grad initial_state", &gradients.initial_state),
                ("out", &outputs.out),
                ("last_state", &outputs.last_state),
            ];
            for ((got, _), (what, truth)) in results.iter().zip(truths) {
                assert_close(&format!("{what} on {set} with {state} states"), got, truth);
            }
        }
    }
}
