//! The scan on the CPU against the f64 reference, which sees the same f32 inputs.

use proptest::prelude::*;

use crate::buffer::{Placement, assert_close};
use crate::scan_case::{Case, Inputs, assert_matches_reference};

/// Largest error of a tensor, relative to its largest element.
const TOLERANCE: f64 = 4e-6;

#[test]
fn forward_and_backward_match_reference_at_odd_lengths() {
    for token in [1, 2, 3, 7, 8, 9, 15, 17, 31, 64, 65, 101] {
        assert_matches_reference(&Inputs::random(Case::full(2, token, 19, 16)), TOLERANCE);
    }
}

#[test]
fn forward_and_backward_match_reference_at_odd_channel_counts() {
    for channel in [1, 2, 5, 8, 15, 16, 17, 33, 63, 64, 65, 127, 129, 200] {
        assert_matches_reference(&Inputs::random(Case::full(2, 13, channel, 16)), TOLERANCE);
    }
}

#[test]
fn forward_and_backward_match_reference_at_every_state_count() {
    for state in [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 41, 64, 65] {
        assert_matches_reference(&Inputs::random(Case::full(2, 21, 35, state)), TOLERANCE);
    }
}

#[test]
fn forward_and_backward_match_reference_without_optional_inputs() {
    for flags in 0..128 {
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let case = Case {
            d: flag(0),
            z: flag(1),
            delta_bias: flag(2),
            delta_softplus: flag(3),
            initial_state: flag(4),
            last_state: flag(5),
            token_map: flag(6),
            ..Case::full(2, 11, 18, 16)
        };
        assert_matches_reference(&Inputs::random(case), TOLERANCE);
    }
}

#[test]
fn forward_and_backward_match_reference_at_the_sizes_of_dim() {
    let placements = [Placement::Contiguous, Placement::Strided];
    for (placement, case) in placements.into_iter().zip([Case::full(1, 366, 96, 16), Case::full(3, 126, 384, 16)]) {
        assert_matches_reference(&Inputs::random(Case { placement, ..case }), TOLERANCE);
    }
}

#[test]
fn a_walk_matches_reference_and_the_output_after_it_is_forward_s() {
    for (batch, token, channel, state) in [(1, 1, 1, 1), (2, 7, 19, 16), (3, 40, 65, 17), (1, 101, 129, 8)] {
        for flags in 0..8 {
            let case = Case {
                delta_softplus: flags & 1 == 1,
                initial_state: flags & 2 == 2,
                token_map: flags & 4 == 4,
                ..Case::full(batch, token, channel, state)
            };
            let inputs = Inputs::random(case);
            let [states, deltas, out] = inputs.walk();
            let (outputs, _) = inputs.run_reference();
            assert_close("states", &states, &outputs.last_state, 0, TOLERANCE);
            assert_close("deltas", &deltas, &inputs.reference_sums_of_steps(), 0, TOLERANCE);
            assert_eq!(out, inputs.run().out, "{case:?}");
        }
    }
}

#[test]
fn a_walk_back_brings_the_gradient_by_the_first_state() {
    for (batch, token, channel, state) in [(1, 1, 1, 1), (2, 7, 19, 16), (3, 40, 65, 17), (1, 101, 129, 8)] {
        for flags in 0..8 {
            let case = Case {
                delta_softplus: flags & 1 == 1,
                z: flags & 2 == 2,
                token_map: flags & 4 == 4,
                last_state: false,
                ..Case::full(batch, token, channel, state)
            };
            let inputs = Inputs::random(case);
            let [grad_states, deltas] = inputs.walk_back();
            let (_, gradients) = inputs.run_reference();
            assert_close("grad_states", &grad_states, &gradients.initial_state, 0, TOLERANCE);
            assert_close("deltas", &deltas, &inputs.reference_sums_of_steps(), 0, TOLERANCE);
        }
    }
}

#[test]
fn empty_dimensions_are_accepted() {
    for (batch, token, channel) in [(0, 5, 7), (2, 0, 7), (2, 5, 0), (0, 0, 0)] {
        assert_matches_reference(&Inputs::random(Case::full(batch, token, channel, 16)), TOLERANCE);
    }
}

#[test]
fn large_and_tiny_step_sizes_neither_overflow_nor_lose_accuracy() {
    let case = Case::full(1, 40, 33, 16);
    let mut inputs = Inputs::random(case);
    for (at, delta) in inputs.delta.iter_mut().enumerate() {
        *delta = [-90.0, -30.0, -12.0, 0.0, 19.9, 20.1, 60.0, 500.0][at % 8];
    }
    assert_matches_reference(&inputs, TOLERANCE);
}

#[test]
fn extreme_finite_inputs_give_no_nan() {
    let mut inputs = Inputs::random(Case { last_state: false, ..Case::full(1, 24, 20, 16) });
    for (at, (delta, z)) in inputs.delta.iter_mut().zip(inputs.z.as_mut().unwrap()).enumerate() {
        *delta = [-3e38, -1e5, -88.0, 88.0, 1e5, 1e9][at % 6];
        *z = [-3e38, -104.0, -1.0, 1.0, 104.0, 1e9][at / 6 % 6];
    }
    let results = inputs.run();
    for values in [&results.out, &results.u, &results.delta, &results.a, &results.b, &results.c] {
        assert!(values.iter().all(|value| value.is_finite()));
    }
    for values in [results.d, results.z, results.delta_bias, results.initial_state] {
        assert!(values.unwrap().iter().all(|value| value.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn forward_and_backward_match_reference_for_any_sizes_and_flags(
        (batch, token, channel, state) in (1_usize..4, 1_usize..40, 1_usize..90, 1_usize..36),
        flags in any::<[bool; 8]>(),
        seed in any::<u64>(),
    ) {
        let [d, z, delta_bias, delta_softplus, initial_state, last_state, token_map, strided] = flags;
        let placement = if strided { Placement::Strided } else { Placement::Contiguous };
        let case = Case {
            batch, token, channel, state, d, z, delta_bias, delta_softplus,
            initial_state, last_state, token_map, placement, seed,
        };
        assert_matches_reference(&Inputs::random(case), TOLERANCE);
    }
}
