//! Residual, norm and modulation on the CPU against the f64 reference, which sees the same f32 inputs.

use dim_kernels::Queue;
use dim_kernels::norm_modulate::{
    self, Branch, Kept, Norm, NormModulate, NormModulateGradients, NormModulateOutputs, reference,
};
use proptest::prelude::*;

use crate::buffer::{Buffer, Placement, assert_close, random, to_f64};

/// Largest error of a tensor, relative to its largest element.
const TOLERANCE: f64 = 3e-6;

pub(crate) const NORMS: [Norm; 3] = [Norm::None, Norm::Rms { eps: 1e-5 }, Norm::Layer { eps: 1e-6 }];

/// What a test varies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) token: usize,
    pub(crate) channel: usize,
    pub(crate) norm: Norm,
    pub(crate) branch: bool,
    pub(crate) gate: bool,
    pub(crate) weight: bool,
    pub(crate) bias: bool,
    pub(crate) scale: bool,
    pub(crate) shift: bool,
    pub(crate) grad_out: bool,
    pub(crate) grad_r: bool,
    pub(crate) placement: Placement,
    pub(crate) seed: u64,
}

impl Case {
    /// Everything that can be given is.
    pub(crate) fn full(batch: usize, token: usize, channel: usize, norm: Norm) -> Self {
        let placement = Placement::Strided;
        Self { placement, seed: 5, ..Self::with_options(batch, token, channel, norm, 0xff) }
    }

    /// A bit an option.
    fn with_options(batch: usize, token: usize, channel: usize, norm: Norm, bits: u32) -> Self {
        let bit = |index: u32| bits >> index & 1 == 1;
        Self {
            batch,
            token,
            channel,
            norm,
            branch: bit(0),
            gate: bit(1) && bit(0),
            weight: bit(2),
            bias: bit(3),
            scale: bit(4),
            shift: bit(5),
            grad_out: bit(6),
            grad_r: bit(7),
            placement: Placement::Contiguous,
            seed: 7,
        }
    }
}

/// The inputs, and the gradients that come from above.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) case: Case,
    pub(crate) x: Vec<f32>,
    pub(crate) y: Option<Vec<f32>>,
    pub(crate) gate: Option<Vec<f32>>,
    pub(crate) weight: Option<Vec<f32>>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) scale: Option<Vec<f32>>,
    pub(crate) shift: Option<Vec<f32>>,
    pub(crate) grad_out: Option<Vec<f32>>,
    pub(crate) grad_r: Option<Vec<f32>>,
}

/// What forward and backward wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Results {
    pub(crate) r: Vec<f32>,
    pub(crate) out: Vec<f32>,
    pub(crate) statistics: Vec<f32>,
    pub(crate) x: Vec<f32>,
    pub(crate) y: Option<Vec<f32>>,
    pub(crate) gate: Option<Vec<f32>>,
    pub(crate) weight: Option<Vec<f32>>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) scale: Option<Vec<f32>>,
    pub(crate) shift: Option<Vec<f32>>,
}

impl Inputs {
    pub(crate) fn random(case: Case) -> Self {
        let Case { batch, token, channel, seed, .. } = case;
        let draw = |given: bool, name, len| given.then(|| random(seed, name, len, -2.0, 2.0));
        let (sequence, row) = (batch * token * channel, batch * channel);
        Self {
            case,
            x: random(seed, "x", sequence, -2.0, 3.0),
            y: draw(case.branch, "y", sequence),
            gate: draw(case.gate, "gate", row),
            weight: draw(case.weight, "weight", channel),
            bias: draw(case.bias, "bias", channel),
            scale: draw(case.scale, "scale", row),
            shift: draw(case.shift, "shift", row),
            grad_out: draw(case.grad_out, "grad_out", sequence),
            grad_r: draw(case.grad_r, "grad_r", sequence),
        }
    }

    /// Runs forward and backward on the CPU, on guarded memory full of NaNs.
    pub(crate) fn run(&self) -> Results {
        let Case { batch, token, channel, placement, .. } = self.case;
        let (sequence, row, vector) = ([batch, token, channel], [batch, channel], [channel]);
        let buffer = |values: &Option<Vec<f32>>, shape: &[usize]| {
            values.as_ref().map(|values| Buffer::of(values, shape, placement))
        };
        let (y, gate) = (buffer(&self.y, &sequence), buffer(&self.gate, &row));
        let (weight, bias) = (buffer(&self.weight, &vector), buffer(&self.bias, &vector));
        let (scale, shift) = (buffer(&self.scale, &row), buffer(&self.shift, &row));
        let gate_view = gate.as_ref().map(Buffer::view);
        let op = NormModulate {
            branch: y.as_ref().map(|y| Branch { y: y.view(), gate: gate_view, gate_offset: 0.75 }),
            norm: self.case.norm,
            weight: weight.as_ref().map(Buffer::view),
            bias: bias.as_ref().map(Buffer::view),
            scale: scale.as_ref().map(Buffer::view),
            shift: shift.as_ref().map(Buffer::view),
        };

        let x = Buffer::of(&self.x, &sequence, placement);
        let (mut r, mut out) = (Buffer::unwritten(&sequence, placement), Buffer::unwritten(&sequence, placement));
        let mut statistics = Buffer::unwritten(&[batch, token, 2], placement);
        let outputs = NormModulateOutputs {
            r: Some(r.view_mut()),
            out: Some(out.view_mut()),
            statistics: Some(statistics.view_mut()),
        };
        norm_modulate::forward(&Queue::Cpu, &op, &x.view(), outputs).unwrap();

        let (grad_out, grad_r) = (buffer(&self.grad_out, &sequence), buffer(&self.grad_r, &sequence));
        let mut grad_x = Buffer::unwritten(&sequence, placement);
        let unwritten =
            |of: &Option<Buffer>, shape: &[usize]| of.is_some().then(|| Buffer::unwritten(shape, placement));
        let (mut grad_y, mut grad_gate) = (unwritten(&y, &sequence), unwritten(&gate, &row));
        let (mut grad_weight, mut grad_bias) = (unwritten(&weight, &vector), unwritten(&bias, &vector));
        let (mut grad_scale, mut grad_shift) = (unwritten(&scale, &row), unwritten(&shift, &row));
        let gradients = NormModulateGradients {
            x: Some(grad_x.view_mut()),
            y: grad_y.as_mut().map(Buffer::view_mut),
            gate: grad_gate.as_mut().map(Buffer::view_mut),
            weight: grad_weight.as_mut().map(Buffer::view_mut),
            bias: grad_bias.as_mut().map(Buffer::view_mut),
            scale: grad_scale.as_mut().map(Buffer::view_mut),
            shift: grad_shift.as_mut().map(Buffer::view_mut),
        };
        let (grad_out, grad_r) = (grad_out.as_ref().map(Buffer::view), grad_r.as_ref().map(Buffer::view));
        let kept = Kept { r: r.view(), statistics: Some(statistics.view()) };
        norm_modulate::backward(&Queue::Cpu, &op, &kept, grad_out.as_ref(), grad_r.as_ref(), gradients).unwrap();
        let values = |buffer: Option<Buffer>| buffer.map(|buffer| buffer.values());
        Results {
            r: r.values(),
            out: out.values(),
            statistics: statistics.values(),
            x: grad_x.values(),
            y: values(grad_y),
            gate: values(grad_gate),
            weight: values(grad_weight),
            bias: values(grad_bias),
            scale: values(grad_scale),
            shift: values(grad_shift),
        }
    }
}

fn assert_matches_reference(inputs: &Inputs) {
    let Case { batch, token, channel, norm, .. } = inputs.case;
    let wide = |values: &Option<Vec<f32>>| values.as_deref().map(to_f64);
    let x = to_f64(&inputs.x);
    let (y, gate, weight, bias) = (wide(&inputs.y), wide(&inputs.gate), wide(&inputs.weight), wide(&inputs.bias));
    let (scale, shift) = (wide(&inputs.scale), wide(&inputs.shift));
    let truth = reference::Inputs {
        sizes: reference::Sizes { batch, token, channel },
        x: &x,
        y: y.as_deref(),
        gate: gate.as_deref(),
        gate_offset: 0.75,
        norm,
        weight: weight.as_deref(),
        bias: bias.as_deref(),
        scale: scale.as_deref(),
        shift: shift.as_deref(),
    };
    let outputs = reference::forward(&truth).unwrap();
    let (grad_out, grad_r) = (wide(&inputs.grad_out), wide(&inputs.grad_r));
    let gradients = reference::backward(&truth, grad_out.as_deref(), grad_r.as_deref()).unwrap();
    let results = inputs.run();
    let check = |what: &str, got: &[f32], truth: &[f64], terms| {
        assert_close(&format!("{what} of {:?}", inputs.case), got, truth, terms, TOLERANCE);
    };
    check("r", &results.r, &outputs.r, 0);
    check("out", &results.out, &outputs.out, 0);
    if channel > 0 {
        check("statistics", &results.statistics, &outputs.statistics, 0);
    }
    check("grad x", &results.x, &gradients.x, 1);
    let optional = [
        ("grad y", &results.y, &gradients.y, 1),
        ("grad gate", &results.gate, &gradients.gate, token),
        ("grad weight", &results.weight, &gradients.weight, batch * token),
        ("grad bias", &results.bias, &gradients.bias, batch * token),
        ("grad scale", &results.scale, &gradients.scale, token),
        ("grad shift", &results.shift, &gradients.shift, token),
    ];
    for (what, got, truth, terms) in optional {
        if let Some(got) = got {
            check(what, got, truth, terms);
        }
    }
}

#[test]
fn forward_and_backward_match_reference_at_odd_lengths() {
    for norm in NORMS {
        for token in [1, 2, 31, 32, 33, 64, 65, 130] {
            assert_matches_reference(&Inputs::random(Case::full(2, token, 21, norm)));
        }
    }
}

#[test]
fn forward_and_backward_match_reference_at_odd_channel_counts() {
    for norm in NORMS {
        for channel in [2, 3, 7, 8, 9, 15, 16, 17, 33, 130, 384, 1000, 1536, 4100] {
            assert_matches_reference(&Inputs::random(Case::full(2, 5, channel, norm)));
        }
    }
}

#[test]
fn a_single_channel_is_accepted() {
    // The norm of a single channel does not depend on it, and its gradient is a difference of equal numbers.
    assert_matches_reference(&Inputs::random(Case::full(2, 5, 1, Norm::None)));
    let results = Inputs::random(Case::full(2, 5, 1, Norm::Rms { eps: 1e-5 })).run();
    assert!(results.x.iter().chain(&results.out).all(|value| value.is_finite()));
}

#[test]
fn forward_and_backward_match_reference_for_every_combination_of_options() {
    for norm in NORMS {
        for bits in 0..256 {
            assert_matches_reference(&Inputs::random(Case::with_options(2, 35, 19, norm, bits)));
        }
    }
}

#[test]
fn empty_dimensions_are_accepted() {
    for norm in NORMS {
        for (batch, token, channel) in [(0, 5, 7), (2, 0, 7), (2, 5, 0), (0, 0, 0)] {
            assert_matches_reference(&Inputs::random(Case::full(batch, token, channel, norm)));
        }
    }
}

#[test]
fn a_mean_far_from_zero_costs_the_layer_norm_no_more_than_its_rounding() {
    let mut inputs = Inputs::random(Case { branch: false, gate: false, ..Case::full(2, 9, 300, NORMS[2]) });
    // Multiples of 1/64, so that the sum is exact.
    inputs.x.iter_mut().for_each(|x| *x = (*x * 64.0).round() / 64.0 + 50.0);
    assert_matches_reference(&inputs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn forward_and_backward_match_reference_for_any_sizes_and_options(
        // Of few channels some token's are all alike by chance, and the rounding of the stream decides about its norm.
        (batch, token, channel, norm) in (1_usize..4, 1_usize..100, 8_usize..200, 0_usize..3),
        bits in 0_u32..256,
        strided in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let placement = if strided { Placement::Strided } else { Placement::Contiguous };
        let case = Case { placement, seed, ..Case::with_options(batch, token, channel, NORMS[norm], bits) };
        assert_matches_reference(&Inputs::random(case));
    }

    /// Without a norm and a modulation, the op only adds; and its two results are one.
    #[test]
    fn without_norm_and_modulation_the_output_is_the_stream(
        (batch, token, channel) in (1_usize..4, 1_usize..50, 1_usize..70),
        seed in any::<u64>(),
    ) {
        let case = Case { seed, ..Case::with_options(batch, token, channel, Norm::None, 0b1100_0011) };
        let results = Inputs::random(case).run();
        prop_assert_eq!(results.r, results.out);
    }

    /// A norm does not see the stream's size, but for `eps`.
    #[test]
    fn a_scaled_stream_gives_the_same_output(
        (token, channel, norm) in (1_usize..50, 8_usize..70, 1_usize..3),
        seed in any::<u64>(),
    ) {
        let norm = if norm == 1 { Norm::Rms { eps: 0.0 } } else { Norm::Layer { eps: 0.0 } };
        let case = Case { seed, branch: false, gate: false, ..Case::full(2, token, channel, norm) };
        let inputs = Inputs::random(case);
        let mut scaled = inputs.clone();
        scaled.x.iter_mut().for_each(|x| *x *= 8.0);
        assert_close("out", &scaled.run().out, &to_f64(&inputs.run().out), 0, TOLERANCE);
    }
}
