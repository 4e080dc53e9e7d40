//! The convolution on the CPU against the f64 reference, which sees the same f32 inputs.

use dim_kernels::causal_conv1d::{self, CausalConv1d, CausalConv1dGradients, reference};
use dim_kernels::{Queue, TokenMap};
use proptest::prelude::*;

use crate::buffer::{Buffer, Placement, assert_close, permutation, random, to_f64};

/// Largest error of a tensor, relative to its largest element.
const TOLERANCE: f64 = 2e-6;

/// What a test varies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) token: usize,
    pub(crate) channel: usize,
    pub(crate) width: usize,
    pub(crate) bias: bool,
    pub(crate) silu: bool,
    pub(crate) token_map: bool,
    pub(crate) placement: Placement,
    pub(crate) seed: u64,
}

impl Case {
    /// Everything that can be given is.
    pub(crate) fn full(batch: usize, token: usize, channel: usize, width: usize) -> Self {
        let placement = Placement::Strided;
        Self { batch, token, channel, width, bias: true, silu: true, token_map: true, placement, seed: 5 }
    }

    pub(crate) fn sequence(&self) -> [usize; 3] {
        [self.batch, self.token, self.channel]
    }
}

/// The inputs, and the gradient that comes from above.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) case: Case,
    pub(crate) x: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) token_map: Option<TokenMap>,
    pub(crate) grad_out: Vec<f32>,
}

/// What forward and backward wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Results {
    pub(crate) out: Vec<f32>,
    pub(crate) x: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Inputs {
    pub(crate) fn random(case: Case) -> Self {
        let Case { batch, token, channel, width, seed, .. } = case;
        let draw = |name, len| random(seed, name, len, -2.0, 2.0);
        Self {
            case,
            x: draw("x", batch * token * channel),
            weight: draw("weight", channel * width),
            bias: case.bias.then(|| draw("bias", channel)),
            token_map: case.token_map.then(|| TokenMap::new(permutation(seed, token)).unwrap()),
            grad_out: draw("grad_out", batch * token * channel),
        }
    }

    /// Runs forward and backward on the CPU, on guarded memory full of NaNs.
    pub(crate) fn run(&self) -> Results {
        let Case { channel, width, placement, .. } = self.case;
        let sequence = self.case.sequence();
        let x = Buffer::of(&self.x, &sequence, placement);
        let weight = Buffer::of(&self.weight, &[channel, width], placement);
        let bias = self.bias.as_ref().map(|bias| Buffer::of(bias, &[channel], placement));
        let conv = CausalConv1d {
            x: x.view(),
            weight: weight.view(),
            bias: bias.as_ref().map(Buffer::view),
            silu: self.case.silu,
            token_map: self.token_map.as_ref(),
        };

        let mut out = Buffer::unwritten(&sequence, placement);
        causal_conv1d::forward(&Queue::Cpu, &conv, out.view_mut()).unwrap();

        let grad_out = Buffer::of(&self.grad_out, &sequence, placement);
        let mut grad_x = Buffer::unwritten(&sequence, placement);
        let mut grad_weight = Buffer::unwritten(&[channel, width], placement);
        let mut grad_bias = bias.is_some().then(|| Buffer::unwritten(&[channel], placement));
        let gradients = CausalConv1dGradients {
            x: grad_x.view_mut(),
            weight: grad_weight.view_mut(),
            bias: grad_bias.as_mut().map(Buffer::view_mut),
        };
        causal_conv1d::backward(&Queue::Cpu, &conv, &grad_out.view(), gradients).unwrap();
        Results {
            out: out.values(),
            x: grad_x.values(),
            weight: grad_weight.values(),
            bias: grad_bias.map(|bias| bias.values()),
        }
    }
}

fn assert_matches_reference(inputs: &Inputs) {
    let Case { batch, token, channel, width, silu, .. } = inputs.case;
    let [x, weight] = [&inputs.x, &inputs.weight].map(|values| to_f64(values));
    let bias = inputs.bias.as_deref().map(to_f64);
    let truth = reference::Inputs {
        sizes: reference::Sizes { batch, token, channel, width },
        x: &x,
        weight: &weight,
        bias: bias.as_deref(),
        silu,
        token_map: inputs.token_map.as_ref(),
    };
    let out = reference::forward(&truth).unwrap();
    let gradients = reference::backward(&truth, &to_f64(&inputs.grad_out)).unwrap();
    let results = inputs.run();
    let check = |what: &str, got: &[f32], truth: &[f64], terms| {
        assert_close(&format!("{what} of {:?}", inputs.case), got, truth, terms, TOLERANCE);
    };
    let tokens = inputs.case.batch * inputs.case.token;
    check("out", &results.out, &out, 0);
    check("grad x", &results.x, &gradients.x, 0);
    check("grad weight", &results.weight, &gradients.weight, tokens);
    if let Some(bias) = results.bias {
        check("grad bias", &bias, &gradients.bias, tokens);
    }
}

#[test]
fn forward_and_backward_match_reference_at_odd_lengths() {
    for token in [1, 2, 3, 4, 5, 31, 63, 64, 65, 66, 67, 127, 128, 129, 200] {
        assert_matches_reference(&Inputs::random(Case::full(2, token, 21, 3)));
    }
}

#[test]
fn forward_and_backward_match_reference_at_odd_channel_counts() {
    for channel in [1, 7, 8, 15, 16, 17, 255, 256, 257, 300, 513] {
        assert_matches_reference(&Inputs::random(Case::full(2, 9, channel, 3)));
    }
}

#[test]
fn forward_and_backward_match_reference_at_every_width() {
    for width in [1, 2, 3, 4, 5, 8, 31, 64, 70] {
        for token in [1, 5, 66, 130] {
            assert_matches_reference(&Inputs::random(Case::full(2, token, 19, width)));
        }
    }
}

#[test]
fn forward_and_backward_match_reference_without_optional_inputs() {
    for flags in 0..8 {
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let case = Case { bias: flag(0), silu: flag(1), token_map: flag(2), ..Case::full(2, 67, 40, 3) };
        assert_matches_reference(&Inputs::random(case));
    }
}

#[test]
fn empty_dimensions_are_accepted() {
    for (batch, token, channel) in [(0, 5, 7), (2, 0, 7), (2, 5, 0), (0, 0, 0)] {
        assert_matches_reference(&Inputs::random(Case::full(batch, token, channel, 3)));
    }
}

#[test]
fn extreme_finite_inputs_give_no_nan() {
    let mut inputs = Inputs::random(Case::full(1, 40, 24, 3));
    for (at, x) in inputs.x.iter_mut().enumerate() {
        *x = [-1e37, -1e5, -104.0, -88.0, 88.0, 1e5, 1e9][at % 7];
    }
    let results = inputs.run();
    for values in [&results.out, &results.x, &results.weight, &results.bias.unwrap()] {
        assert!(values.iter().all(|value| value.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn forward_and_backward_match_reference_for_any_sizes_and_flags(
        (batch, token, channel, width) in (1_usize..4, 1_usize..150, 1_usize..70, 1_usize..9),
        (bias, silu, token_map, strided) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let placement = if strided { Placement::Strided } else { Placement::Contiguous };
        let case = Case { batch, token, channel, width, bias, silu, token_map, placement, seed };
        assert_matches_reference(&Inputs::random(case));
    }
}
