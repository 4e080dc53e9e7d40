//! The optimiser on every instruction set that this processor has; through the public call only the widest one runs.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use super::*;
use crate::adamw_ema::{Clip, Constants};
use crate::lanes::{instruction_sets, run_on};
use crate::view::{DType, Device};

fn numbers(length: usize, seed: f32) -> Vec<f32> {
    (0..length).map(|i| ((i as f32 + seed) * 1.7).sin()).collect()
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let length = 3 * CHUNK + 77;
    let constants = Constants {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.03,
        ema_decay: 0.9,
        gradient_scale: 0.5,
        step: NonZeroU64::new(3).unwrap(),
    };
    let gradients = numbers(length, 0.0);
    let results = instruction_sets().into_iter().map(|set| {
        let view = TensorView::from_slice(&gradients, &[length]).unwrap();
        let mut sum = 0.0;
        run_on(set, SquareSum { values: &gradients, sum: &mut sum });
        let norm = [sum.sqrt() as f32];
        let mut buffers = [1.0, 2.0, 3.0, 4.0].map(|seed| numbers(length, seed));
        buffers[2].iter_mut().for_each(|v| *v = v.abs());
        let mut copy = vec![0_u16; length];
        let shape = [length];
        let (pointer, device) = (copy.as_mut_ptr().cast(), Device::Cpu);
        // SAFETY: the memory is the vector's, which is not used otherwise while the view lives.
        let copy_view = unsafe { TensorViewMut::from_raw_parts(pointer, DType::Bf16, device, &shape, &[1]) };
        let mut views = buffers.iter_mut().map(|values| TensorViewMut::from_slice(values, &shape).unwrap());
        let mut state = AdamWEmaState {
            parameters: views.next().unwrap(),
            first_moment: views.next().unwrap(),
            second_moment: views.next().unwrap(),
            ema: views.next().unwrap(),
            bf16_copy: Some(copy_view.unwrap()),
        };
        let clip = Clip { norm: TensorView::from_slice(&norm, &[1]).unwrap(), max_norm: 1.0 };
        let inputs = AdamWEma { gradients: view, clip: Some(clip), schedule: None, constants };
        run_on(set, Step::new(&inputs, &mut state));
        (set, sum.to_bits(), buffers.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>()), copy)
    });
    let results: Vec<_> = results.collect();
    for (set, sum, buffers, copy) in &results {
        assert_eq!(*sum, results[0].1, "sum on {set}");
        assert!(*buffers == results[0].2 && *copy == results[0].3, "step on {set}");
    }
}

#[test]
fn bf16_is_rounded_to_the_nearest_and_even() {
    let specials =
        [0.0, -0.0, 1.0, 1.003_906_3, 1.011_718_8, 1e-40, 3.4e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let signalling = f32::from_bits(0x7f80_0001);
    for value in numbers(10_000, 9.0).into_iter().chain(specials).chain([signalling]) {
        let (got, truth) = (bf16_bits(value), half::bf16::from_f32(value).to_bits());
        assert_eq!(got, truth, "{value:e}");
    }
}
