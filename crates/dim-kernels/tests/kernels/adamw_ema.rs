//! The optimiser on the CPU against the f64 reference, and the laws it obeys.

use std::num::NonZeroU64;

use dim_kernels::adamw_ema::{self, AdamWEma, AdamWEmaState, Clip, Constants, reference};
use dim_kernels::{DType, Device, KernelError, Queue, TensorView, TensorViewMut};
use half::bf16;
use proptest::prelude::*;

use crate::buffer::{Buffer, Placement, assert_close, random, to_f64};

/// Largest error of a tensor, relative to its largest element or, as all are sums of numbers around one, to one.
const TOLERANCE: f64 = 5e-7;

/// A value of bf16 that no test computes.
const UNWRITTEN: bf16 = bf16::from_bits(0x7fed);

pub(crate) const CONSTANTS: Constants = Constants {
    lr: 1e-2,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.03,
    ema_decay: 0.9,
    gradient_scale: 0.5,
    step: NonZeroU64::MIN,
};

/// What a step starts from.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) constants: Constants,
    pub(crate) max_norm: Option<f64>,
    pub(crate) gradients: Vec<f32>,
    /// Parameters, first and second moment, average.
    pub(crate) state: [Vec<f32>; 4],
}

/// What a step wrote.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(crate) norm: f32,
    pub(crate) state: [Vec<f32>; 4],
    pub(crate) copy: Vec<bf16>,
}

impl Inputs {
    pub(crate) fn random(length: usize, seed: u64) -> Self {
        let draw = |name, low| random(seed, name, length, low, 1.0);
        let state = [draw("parameters", -1.0), draw("first", -1.0), draw("second", 0.0), draw("ema", -1.0)];
        Self { constants: CONSTANTS, max_norm: None, gradients: draw("gradients", -1.0), state }
    }

    /// Takes the norm and a step, on guarded memory.
    pub(crate) fn run(&self) -> Results {
        self.run_with_schedule(None)
    }

    fn run_with_schedule(&self, schedule: Option<[f32; 3]>) -> Results {
        let shape = [self.gradients.len()];
        let gradients = Buffer::of(&self.gradients, &shape, Placement::Contiguous);
        let mut norm = Buffer::unwritten(&[1], Placement::Contiguous);
        let scale = self.constants.gradient_scale;
        adamw_ema::gradient_norm(&Queue::Cpu, &gradients.view(), scale, norm.view_mut()).unwrap();

        let mut buffers = self.state.each_ref().map(|values| Buffer::of(values, &shape, Placement::Contiguous));
        let mut copy = vec![UNWRITTEN; shape[0] + 2];
        let first = copy[1..].as_mut_ptr().cast();
        // SAFETY: the elements lie in `copy`, which is not used while the view lives.
        let copy_view = unsafe { TensorViewMut::from_raw_parts(first, DType::Bf16, Device::Cpu, &shape, &[1]) };
        let mut views = buffers.iter_mut().map(Buffer::view_mut);
        let state = AdamWEmaState {
            parameters: views.next().unwrap(),
            first_moment: views.next().unwrap(),
            second_moment: views.next().unwrap(),
            ema: views.next().unwrap(),
            bf16_copy: Some(copy_view.unwrap()),
        };
        let inputs = AdamWEma {
            gradients: gradients.view(),
            clip: self.max_norm.map(|max_norm| Clip { norm: norm.view(), max_norm }),
            schedule: schedule.as_ref().map(|values| TensorView::from_slice(values, &[3]).unwrap()),
            constants: self.constants,
        };
        adamw_ema::step(&Queue::Cpu, &inputs, state).unwrap();
        let guards = [copy[0], copy[shape[0] + 1]];
        assert!(
            guards.iter().all(|guard| guard.to_bits() == UNWRITTEN.to_bits()),
            "memory beside the copy was written"
        );
        copy.pop();
        Results { norm: norm.values()[0], state: buffers.map(|buffer| buffer.values()), copy: copy.split_off(1) }
    }
}

/// Everything that a step wrote, as bits.
pub(crate) fn bits(results: &Results) -> Vec<u32> {
    let copy = results.copy.iter().map(|value| u32::from(value.to_bits()));
    results.state.iter().flatten().chain([&results.norm]).map(|value| value.to_bits()).chain(copy).collect()
}

fn assert_matches_reference(inputs: &Inputs) {
    let [parameters, first_moment, second_moment, ema] = inputs.state.each_ref().map(|values| to_f64(values));
    let mut truth = reference::State { parameters, first_moment, second_moment, ema };
    let gradients = to_f64(&inputs.gradients);
    reference::step(&inputs.constants, &gradients, inputs.max_norm, &mut truth).unwrap();
    let results = inputs.run();
    let norm = reference::gradient_norm(&gradients, inputs.constants.gradient_scale);
    assert_close("norm", &[results.norm], &[norm], 0, 1e-7);
    let [parameters, first_moment, second_moment, ema] = &results.state;
    for (what, got, truth) in [
        ("parameters", parameters, &truth.parameters),
        ("first moment", first_moment, &truth.first_moment),
        ("second moment", second_moment, &truth.second_moment),
        ("ema", ema, &truth.ema),
    ] {
        assert_close(what, got, truth, 1, TOLERANCE);
    }
    let rounded: Vec<bf16> = parameters.iter().map(|&value| bf16::from_f32(value)).collect();
    assert_eq!(results.copy, rounded);
}

#[test]
fn norm_and_step_match_reference_at_odd_lengths() {
    for length in [0, 1, 3, 15, 16, 17, 1023, 1024, 1025, 16383, 16384, 16385, 70001] {
        for max_norm in [None, Some(0.5), Some(1e9)] {
            assert_matches_reference(&Inputs { max_norm, ..Inputs::random(length, 7) });
        }
    }
}

#[test]
fn many_steps_from_zero_moments_follow_the_reference() {
    let mut inputs = Inputs { max_norm: Some(1.0), ..Inputs::random(1025, 8) };
    inputs.state[1].fill(0.0);
    inputs.state[2].fill(0.0);
    let mut truth = {
        let [parameters, first_moment, second_moment, ema] = inputs.state.each_ref().map(|values| to_f64(values));
        reference::State { parameters, first_moment, second_moment, ema }
    };
    for step in 1..=100 {
        inputs.constants.step = NonZeroU64::new(step).unwrap();
        inputs.gradients = random(step, "gradients", 1025, -1.0, 1.0);
        reference::step(&inputs.constants, &to_f64(&inputs.gradients), inputs.max_norm, &mut truth).unwrap();
        inputs.state = inputs.run().state;
    }
    assert_close("parameters", &inputs.state[0], &truth.parameters, 0, 3e-6);
    assert_close("second moment", &inputs.state[2], &truth.second_moment, 0, 3e-6);
    assert_close("ema", &inputs.state[3], &truth.ema, 0, 3e-6);
}

#[test]
fn norms_neither_overflow_nor_hide_what_is_not_finite() {
    let norm_of = |value: f32| {
        let mut inputs = Inputs::random(70001, 1);
        inputs.gradients.fill(0.0);
        inputs.gradients[70000] = value;
        let results = Inputs { max_norm: Some(1.0), ..inputs }.run();
        (results.norm, results.state[0].iter().all(|value| value.is_finite()))
    };
    assert_eq!(norm_of(0.0), (0.0, true));
    assert_eq!(norm_of(2e30), (1e30, true));
    assert_eq!(norm_of(2e-30), (1e-30, true));
    assert_eq!(norm_of(f32::INFINITY), (f32::INFINITY, false));
    assert!(norm_of(f32::NAN).0.is_nan());
}

#[test]
fn a_schedule_in_memory_takes_the_place_of_the_constants() {
    let inputs = Inputs { max_norm: Some(0.5), ..Inputs::random(777, 2) };
    let constants = Constants { lr: 3e-4, step: NonZeroU64::new(9).unwrap(), ..inputs.constants };
    let by_value = Inputs { constants, ..inputs.clone() }.run();
    assert_eq!(bits(&inputs.run_with_schedule(Some(constants.schedule()))), bits(&by_value));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (right, wrong) = (vec![0.0_f32; 6], vec![0.0_f32; 7]);
    let view = |values| TensorView::from_slice(values, &[<[f32]>::len(values)]).unwrap();
    let messages = |at: usize, norm: usize, bf16: DType| {
        let mut buffers: Vec<Vec<f32>> = (0..5).map(|i| if i == at { wrong.clone() } else { right.clone() }).collect();
        let (copy, buffers) = buffers.split_last_mut().unwrap();
        let shape = [copy.len()];
        // SAFETY: refused before it is written, or bf16, for which there is room twice.
        let copy = unsafe { TensorViewMut::from_raw_parts(copy.as_mut_ptr().cast(), bf16, Device::Cpu, &shape, &[1]) };
        let mut views = buffers.iter_mut().map(|values| {
            let shape = [values.len()];
            TensorViewMut::from_slice(values, &shape).unwrap()
        });
        let state = AdamWEmaState {
            parameters: views.next().unwrap(),
            first_moment: views.next().unwrap(),
            second_moment: views.next().unwrap(),
            ema: views.next().unwrap(),
            bf16_copy: Some(copy.unwrap()),
        };
        let clip = Some(Clip { norm: view(&right[..norm]), max_norm: 1.0 });
        let inputs = AdamWEma { gradients: view(&right), clip, schedule: None, constants: CONSTANTS };
        adamw_ema::step(&Queue::Cpu, &inputs, state).map_err(|error: KernelError| error.to_string())
    };
    assert_eq!(messages(9, 1, DType::Bf16), Ok(()));
    for (at, name) in ["parameters", "first_moment", "second_moment", "ema", "bf16_copy"].into_iter().enumerate() {
        let expected = format!("adamw_ema::step: `{name}` must have shape [parameter] = [6], got [7]");
        assert_eq!(messages(at, 1, DType::Bf16).unwrap_err(), expected);
    }
    let expected = "adamw_ema::step: `clip.norm` must have shape [one] = [1], got [2]";
    assert_eq!(messages(9, 2, DType::Bf16).unwrap_err(), expected);
    let expected = "adamw_ema::step: `bf16_copy` must be bf16 on the CPU, got f32";
    assert_eq!(messages(9, 1, DType::F32).unwrap_err(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn norm_and_step_match_reference_for_any_constants(
        (length, seed, step) in (0_usize..3000, any::<u64>(), 1_u64..1_000_000),
        (lr, weight_decay) in (0.0..0.1_f64, 0.0..0.1_f64),
        (beta1, beta2, ema_decay) in (0.0..0.99_f64, 0.0..0.9999_f64, 0.0..=1.0_f64),
        (gradient_scale, max_norm) in (0.001..10.0_f64, proptest::option::of(0.01..100.0_f64)),
    ) {
        let step = NonZeroU64::new(step).unwrap();
        let constants =
            Constants { lr, beta1, beta2, eps: 1e-6, weight_decay, ema_decay, gradient_scale, step };
        assert_matches_reference(&Inputs { constants, max_norm, ..Inputs::random(length, seed) });
    }

    /// To clip is to scale the gradients; not a bit differs.
    #[test]
    fn a_clipped_step_is_a_step_with_scaled_gradients(
        (length, seed) in (1_usize..3000, any::<u64>()), max_norm in 0.01..100.0_f64,
    ) {
        let mut inputs = Inputs { max_norm: Some(max_norm), ..Inputs::random(length, seed) };
        inputs.constants.gradient_scale = 1.0;
        let clipped = inputs.run();
        let factor = (max_norm as f32 / (clipped.norm + 1e-6)).min(1.0);
        inputs.gradients.iter_mut().for_each(|gradient| *gradient *= factor);
        let scaled = Inputs { max_norm: None, ..inputs }.run();
        prop_assert!(scaled.state == clipped.state && scaled.copy == clipped.copy);
    }

    /// Gradients that were added up and are averaged by the step's factor are the average; powers of two are exact.
    #[test]
    fn a_scaled_step_is_a_step_with_scaled_gradients(
        (length, seed) in (1_usize..3000, any::<u64>()), power in 0_u32..6,
    ) {
        let mut inputs = Inputs { max_norm: Some(1.0), ..Inputs::random(length, seed) };
        inputs.constants.gradient_scale = 0.5_f64.powi(power as i32);
        let by_step = inputs.run();
        let scale = inputs.constants.gradient_scale as f32;
        inputs.gradients.iter_mut().for_each(|gradient| *gradient *= scale);
        inputs.constants.gradient_scale = 1.0;
        let before = inputs.run();
        prop_assert_eq!(before.norm, by_step.norm);
        for (got, truth) in by_step.state.iter().zip(&before.state) {
            assert_close("scaled", got, &to_f64(truth), 1, TOLERANCE);
        }
    }

    /// Weights that stay where they are leave their average where it is.
    #[test]
    fn the_average_of_constant_weights_is_constant((length, seed) in (1_usize..3000, any::<u64>())) {
        let mut inputs = Inputs::random(length, seed);
        inputs.constants.lr = 0.0;
        inputs.state[3] = inputs.state[0].clone();
        let results = inputs.run();
        prop_assert!(results.state[0] == inputs.state[0] && results.state[3] == inputs.state[0]);
    }
}
