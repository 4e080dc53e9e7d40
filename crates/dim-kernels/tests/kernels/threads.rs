//! The same bits whatever the number of threads, and in every run.

use crate::buffer::Placement;
use crate::scan_case::{Case, Inputs};
use crate::{adamw_ema, conv, norm};

fn on_threads<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

/// Everything that a run wrote, as bits.
fn bits<'a>(tensors: impl IntoIterator<Item = &'a Vec<f32>>) -> Vec<Vec<u32>> {
    tensors.into_iter().map(|tensor| tensor.iter().map(|value| value.to_bits()).collect()).collect()
}

#[test]
fn scan_gives_the_same_bits_on_any_number_of_threads() {
    // Several blocks of channels, the last one narrow, so that every sum over tasks has several terms.
    for case in [Case::full(3, 50, 300, 16), Case { placement: Placement::Contiguous, ..Case::full(1, 100, 1000, 9) }] {
        let inputs = Inputs::random(case);
        let run = || {
            let results = inputs.run();
            let optional = [results.last_state, results.d, results.z, results.delta_bias, results.initial_state];
            let optional = optional.map(Option::unwrap);
            let required = [&results.out, &results.u, &results.delta, &results.a, &results.b, &results.c];
            bits(required.into_iter().chain(&optional))
        };
        let on_one = on_threads(1, run);
        for threads in [1, 2, 3, 7] {
            assert!(on_threads(threads, run) == on_one, "other bits on {threads} threads for {case:?}");
        }
    }
}

#[test]
fn convolution_gives_the_same_bits_on_any_number_of_threads() {
    let inputs = conv::Inputs::random(conv::Case::full(3, 200, 300, 3));
    let run = || {
        let results = inputs.run();
        bits([&results.out, &results.x, &results.weight, &results.bias.unwrap()])
    };
    let on_one = on_threads(1, run);
    for threads in [1, 2, 3, 7] {
        assert!(on_threads(threads, run) == on_one, "other bits on {threads} threads");
    }
}

#[test]
fn norm_gives_the_same_bits_on_any_number_of_threads() {
    for norm in norm::NORMS {
        let inputs = norm::Inputs::random(norm::Case::full(3, 200, 300, norm));
        let run = || {
            let results = inputs.run();
            let optional = [results.y, results.gate, results.weight, results.bias, results.scale, results.shift];
            let optional = optional.map(Option::unwrap);
            bits([&results.r, &results.out, &results.x].into_iter().chain(&optional))
        };
        let on_one = on_threads(1, run);
        for threads in [1, 2, 3, 7] {
            assert!(on_threads(threads, run) == on_one, "other bits on {threads} threads for {norm:?}");
        }
    }
}

#[test]
fn optimiser_gives_the_same_bits_on_any_number_of_threads() {
    let inputs = adamw_ema::Inputs { max_norm: Some(1.0), ..adamw_ema::Inputs::random(100_001, 3) };
    let run = || adamw_ema::bits(&inputs.run());
    let on_one = on_threads(1, run);
    for threads in [1, 2, 3, 7] {
        assert!(on_threads(threads, run) == on_one, "other bits on {threads} threads");
    }
}
