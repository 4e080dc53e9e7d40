//! The optimiser's CUDA kernels against the f64 reference.
#![allow(clippy::unwrap_used)]

mod cuda_support;

use std::num::NonZeroU64;

use cuda_support::{DeviceTensor, Gpu, Placement, assert_close, gpu, random};
use dim_kernels::DType;
use dim_kernels::adamw_ema::{self, AdamWEma, AdamWEmaState, Clip, Constants, reference};

const CONSTANTS: Constants = Constants {
    lr: 1e-2,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.03,
    ema_decay: 0.9,
    gradient_scale: 0.5,
    step: NonZeroU64::MIN,
};

/// What a test varies.
#[derive(Clone, Copy, Debug)]
struct Case {
    length: usize,
    dtype: DType,
    max_norm: Option<f64>,
    copy: bool,
    schedule: bool,
    zero_gradients: bool,
    /// Whether the gradients start where no vector does: then all is loaded and stored one by one.
    odd_start: bool,
}

impl Case {
    /// Everything that can be given is, and gradients are clipped.
    fn full(length: usize, dtype: DType) -> Self {
        Self { length, dtype, max_norm: Some(0.5), copy: true, schedule: true, zero_gradients: false, odd_start: false }
    }

    /// Takes the norm and a step on the GPU, in guarded memory, and as the reference; returns the GPU's results.
    fn check(&self, gpu: &Gpu) -> Vec<Vec<f64>> {
        let Self { length, dtype, max_norm, .. } = *self;
        let draw = |name, low| random(3, name, length, (low, 1.0), DType::F32);
        let mut gradients = random(3, "gradients", length, (-1.0, 1.0), dtype);
        if self.zero_gradients {
            gradients.fill(0.0);
        }
        let mut truth = reference::State {
            parameters: draw("parameters", -1.0),
            first_moment: draw("first", -1.0),
            second_moment: draw("second", 0.0),
            ema: draw("ema", -1.0),
        };

        let tensor = |values: &[f64], dtype| DeviceTensor::of(values, dtype, &[values.len()], Placement::Contiguous);
        let unwritten = |dtype, length| DeviceTensor::unwritten(dtype, &[length], Placement::Contiguous);
        let state = [&truth.parameters, &truth.first_moment, &truth.second_moment, &truth.ema];
        let [mut parameters, mut first_moment, mut second_moment, mut ema] =
            state.map(|values| tensor(values, DType::F32));
        let before = usize::from(self.odd_start);
        let stored = [vec![0.0; before], gradients.clone()].concat();
        let on_device = tensor(&stored, dtype);
        let (mut norm, mut copy) = (unwritten(DType::F32, 1), unwritten(DType::Bf16, length));
        let schedule = tensor(&CONSTANTS.schedule().map(f64::from), DType::F32);
        // With a schedule in memory, that of the constants must not matter.
        let constants = if self.schedule { Constants { lr: f64::NAN, ..CONSTANTS } } else { CONSTANTS };

        let scale = CONSTANTS.gradient_scale;
        adamw_ema::gradient_norm(&gpu.queue(), &on_device.part(before, length), scale, norm.view_mut()).unwrap();
        let inputs = AdamWEma {
            gradients: on_device.part(before, length),
            clip: max_norm.map(|max_norm| Clip { norm: norm.view(), max_norm }),
            schedule: self.schedule.then(|| schedule.view()),
            constants,
        };
        let state = AdamWEmaState {
            parameters: parameters.view_mut(),
            first_moment: first_moment.view_mut(),
            second_moment: second_moment.view_mut(),
            ema: ema.view_mut(),
            bf16_copy: self.copy.then(|| copy.view_mut()),
        };
        adamw_ema::step(&gpu.queue(), &inputs, state).unwrap();
        gpu.finish();

        let true_norm = reference::gradient_norm(&gradients, scale);
        reference::step(&CONSTANTS, &gradients, max_norm, &mut truth).unwrap();
        assert_eq!(on_device.read("gradients"), stored, "{self:?}: the gradients were written");
        let mut results = Vec::new();
        let mut compare = |name: &str, tensor: &DeviceTensor, expected: &[f64], dtype| {
            let got = tensor.read(name);
            assert_close(&format!("{self:?}: {name}"), &got, expected, dtype);
            results.push(got);
        };
        compare("norm", &norm, &[true_norm], DType::F32);
        compare("parameters", &parameters, &truth.parameters, DType::F32);
        compare("first moment", &first_moment, &truth.first_moment, DType::F32);
        compare("second moment", &second_moment, &truth.second_moment, DType::F32);
        compare("ema", &ema, &truth.ema, DType::F32);
        if self.copy {
            compare("copy", &copy, &truth.parameters, DType::Bf16);
        } else {
            assert!(copy.read("copy").iter().all(|value| value.is_nan()), "{self:?}: an unwanted copy was written");
        }
        results
    }
}

#[test]
fn every_length_around_a_block_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F32, DType::Bf16] {
        for length in [0, 1, 2, 3, 4, 5, 255, 1023, 1024, 1025, 16383, 16384, 16385, 70001] {
            Case::full(length, dtype).check(&gpu);
        }
    }
}

#[test]
fn every_combination_of_options_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for max_norm in [None, Some(0.5), Some(1e9)] {
        for bits in 0..16_u32 {
            let bit = |index: u32| bits >> index & 1 == 1;
            let dtype = if bit(3) { DType::Bf16 } else { DType::F32 };
            let case =
                Case { max_norm, copy: bit(0), schedule: bit(1), zero_gradients: bit(2), ..Case::full(1025, dtype) };
            case.check(&gpu);
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F32, DType::Bf16] {
        let case = Case::full(300_001, dtype);
        assert_eq!(case.check(&gpu), case.check(&gpu), "{dtype}");
    }
}

#[test]
fn buffers_that_no_vector_fits_match_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F32, DType::Bf16] {
        for length in [1, 1023, 1024, 70001] {
            Case { odd_start: true, ..Case::full(length, dtype) }.check(&gpu);
        }
    }
}

#[test]
fn norms_neither_overflow_nor_hide_what_is_not_finite() {
    let Some(gpu) = gpu() else { return };
    let norm_of = |value: f64| {
        let mut gradients = vec![0.0; 70001];
        gradients[70000] = value;
        let gradients = DeviceTensor::of(&gradients, DType::F32, &[70001], Placement::Contiguous);
        let mut norm = DeviceTensor::unwritten(DType::F32, &[1], Placement::Contiguous);
        adamw_ema::gradient_norm(&gpu.queue(), &gradients.view(), 1.0, norm.view_mut()).unwrap();
        gpu.finish();
        norm.read("norm")[0]
    };
    assert_eq!(norm_of(0.0), 0.0);
    for value in [1e30_f32, -1e-30].map(f64::from) {
        assert_eq!(norm_of(value), value.abs());
    }
    assert_eq!(norm_of(f64::NEG_INFINITY), f64::INFINITY);
    assert!(norm_of(f64::NAN).is_nan());
}
