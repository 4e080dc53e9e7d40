//! Laws that scan and convolution obey, whatever the numbers.

use dim_kernels::TokenMap;
use proptest::prelude::*;

use crate::buffer::{Placement, assert_close, to_f64};
use crate::conv;
use crate::scan_case::{Case, Inputs, Results};

/// Largest difference of two ways to the same result, relative to the largest element.
const TOLERANCE: f64 = 3e-6;

/// Some tokens of `[batch, token, width]`.
fn tokens(values: &[f32], batch: usize, token: usize, of: impl Iterator<Item = usize> + Clone) -> Vec<f32> {
    let width = values.len().checked_div(batch * token).unwrap_or(0);
    let rows = (0..batch).flat_map(|batch| of.clone().map(move |at| batch * token + at));
    rows.flat_map(|row| &values[row * width..][..width]).copied().collect()
}

/// The inputs of some tokens, in a new order.
fn select(inputs: &Inputs, of: impl Iterator<Item = usize> + Clone) -> Inputs {
    let Case { batch, token, .. } = inputs.case;
    let take = |values: &Vec<f32>| tokens(values, batch, token, of.clone());
    Inputs {
        case: Case { token: of.clone().count(), token_map: false, ..inputs.case },
        u: take(&inputs.u),
        delta: take(&inputs.delta),
        b: take(&inputs.b),
        c: take(&inputs.c),
        z: inputs.z.as_ref().map(take),
        grad_out: take(&inputs.grad_out),
        token_map: None,
        ..inputs.clone()
    }
}

/// Compares sums of so many terms, or with 0 terms what is no such sum.
fn close(what: &str, got: &[f32], truth: &[f32], terms: usize) {
    assert_close(what, got, &to_f64(truth), terms, TOLERANCE);
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Compares what belongs to tokens: `parts` holds it for the tokens that `of` lists.
fn assert_tokens_match(whole: &Results, part: &Results, case: Case, of: impl Iterator<Item = usize> + Clone) {
    let pairs = [
        ("out", &part.out, &whole.out),
        ("grad u", &part.u, &whole.u),
        ("grad delta", &part.delta, &whole.delta),
        ("grad b", &part.b, &whole.b),
        ("grad c", &part.c, &whole.c),
        ("grad z", part.z.as_ref().unwrap(), whole.z.as_ref().unwrap()),
    ];
    for (what, part, whole) in pairs {
        close(what, part, &tokens(whole, case.batch, case.token, of.clone()), case.channel);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Two scans, the second one from the first one's last state, are one scan: forward, and backward with the
    /// gradient of the state between them handed back.
    #[test]
    fn a_scan_split_in_two_and_carried_is_the_whole(
        (batch, first, second, channel, state) in (1_usize..3, 0_usize..30, 0_usize..30, 1_usize..40, 1_usize..20),
        seed in any::<u64>(),
    ) {
        let token = first + second;
        let case = Case { token_map: false, seed, ..Case::full(batch, token, channel, state) };
        let whole = Inputs::random(case);
        let mut head = select(&whole, 0..first);
        let mut tail = select(&whole, first..token);
        tail.initial_state = head.run().last_state;
        let of_tail = tail.run();
        head.grad_last_state.clone_from(&of_tail.initial_state);
        let of_head = head.run();
        let of_whole = whole.run();

        assert_tokens_match(&of_whole, &of_head, case, 0..first);
        assert_tokens_match(&of_whole, &of_tail, case, first..token);
        let pair = |a: &Option<Vec<f32>>, b: &Option<Vec<f32>>| (a.clone().unwrap(), b.clone().unwrap());
        let (got, truth) = pair(&of_tail.last_state, &of_whole.last_state);
        close("last_state", &got, &truth, 1);
        let (got, truth) = pair(&of_head.initial_state, &of_whole.initial_state);
        close("grad initial_state", &got, &truth, 1);
        close("grad a", &sum(&of_head.a, &of_tail.a), &of_whole.a, batch * token);
        let (head, tail) = pair(&of_head.d, &of_tail.d);
        close("grad d", &sum(&head, &tail), of_whole.d.as_ref().unwrap(), batch * token);
        let (head, tail) = pair(&of_head.delta_bias, &of_tail.delta_bias);
        close("grad delta_bias", &sum(&head, &tail), of_whole.delta_bias.as_ref().unwrap(), batch * token);
    }

    /// To scan along a map is to permute, scan, and permute back; not a bit differs.
    #[test]
    fn a_scan_along_a_map_is_a_scan_of_permuted_tokens(
        (batch, token, channel, state) in (1_usize..3, 1_usize..40, 1_usize..40, 1_usize..20),
        seed in any::<u64>(),
    ) {
        let case = Case { seed, ..Case::full(batch, token, channel, state) };
        let inputs = Inputs::random(case);
        let map = inputs.token_map.clone().unwrap();
        let along = inputs.run();
        let permuted = select(&inputs, map.as_slice().iter().map(|&token| token as usize)).run();
        let inverse = map.inverse();
        let back = |values: &Vec<f32>| tokens(values, batch, token, inverse.as_slice().iter().map(|&at| at as usize));
        let permuted = Results {
            out: back(&permuted.out),
            u: back(&permuted.u),
            delta: back(&permuted.delta),
            b: back(&permuted.b),
            c: back(&permuted.c),
            z: permuted.z.as_ref().map(back),
            ..permuted
        };
        prop_assert!(permuted == along);
    }

    /// The same for the convolution.
    #[test]
    fn a_convolution_along_a_map_is_one_of_permuted_tokens(
        (batch, token, channel, width) in (1_usize..3, 1_usize..90, 1_usize..40, 1_usize..6),
        seed in any::<u64>(),
    ) {
        let case = conv::Case { seed, ..conv::Case::full(batch, token, channel, width) };
        let inputs = conv::Inputs::random(case);
        let map = inputs.token_map.clone().unwrap();
        let along = inputs.run();
        let permute = |values: &Vec<f32>, map: &TokenMap| {
            tokens(values, batch, token, map.as_slice().iter().map(|&at| at as usize))
        };
        let permuted = conv::Inputs {
            case: conv::Case { token_map: false, ..case },
            x: permute(&inputs.x, &map),
            grad_out: permute(&inputs.grad_out, &map),
            token_map: None,
            ..inputs.clone()
        };
        let permuted = permuted.run();
        let inverse = map.inverse();
        prop_assert!(permute(&permuted.out, &inverse) == along.out);
        prop_assert!(permute(&permuted.x, &inverse) == along.x);
        prop_assert!(permuted.weight == along.weight && permuted.bias == along.bias);
    }

    /// Sequences of a batch know nothing of each other.
    #[test]
    fn a_batch_is_its_sequences_one_by_one(token in 1_usize..30, channel in 1_usize..40, seed in any::<u64>()) {
        let case = Case { seed, placement: Placement::Contiguous, ..Case::full(3, token, channel, 16) };
        let all = Inputs::random(case);
        let of_all = all.run();
        let mut grad_a = vec![0.0; of_all.a.len()];
        for batch in 0..3 {
            let one = |values: &Vec<f32>| values.chunks(values.len() / 3).nth(batch).unwrap().to_vec();
            let inputs = Inputs {
                case: Case { batch: 1, ..case },
                u: one(&all.u),
                delta: one(&all.delta),
                b: one(&all.b),
                c: one(&all.c),
                z: all.z.as_ref().map(one),
                initial_state: all.initial_state.as_ref().map(one),
                grad_out: one(&all.grad_out),
                grad_last_state: all.grad_last_state.as_ref().map(one),
                ..all.clone()
            };
            let results = inputs.run();
            prop_assert!(results.out == one(&of_all.out));
            prop_assert!(results.u == one(&of_all.u));
            prop_assert!(results.b == one(&of_all.b));
            prop_assert!(results.last_state == of_all.last_state.as_ref().map(one));
            grad_a = sum(&grad_a, &results.a);
        }
        close("grad a", &grad_a, &of_all.a, 3 * token);
    }
}
