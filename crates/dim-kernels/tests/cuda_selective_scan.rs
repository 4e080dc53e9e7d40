//! The scan's CUDA kernels against the f64 reference.
#![allow(clippy::unwrap_used)]

mod cuda_support;

use cuda_support::{DeviceTensor, Gpu, Placement, assert_close, gpu, permutation, random};
use dim_kernels::selective_scan::{self, SelectiveScan, SelectiveScanGradients, reference};
use dim_kernels::{DType, TokenMap};

const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];

/// What a test varies.
#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: reference::Sizes,
    dtype: DType,
    placement: Placement,
    d: bool,
    z: bool,
    delta_bias: bool,
    delta_softplus: bool,
    initial_state: bool,
    last_state: bool,
    token_map: bool,
}

impl Case {
    /// Everything that can be given is.
    fn full(batch: usize, token: usize, channel: usize, state: usize, dtype: DType) -> Self {
        Self {
            sizes: reference::Sizes { batch, token, channel, state },
            dtype,
            placement: Placement::Strided,
            d: true,
            z: true,
            delta_bias: true,
            delta_softplus: true,
            initial_state: true,
            last_state: true,
            token_map: true,
        }
    }

    fn shapes(&self) -> Shapes {
        let reference::Sizes { batch, token, channel, state } = self.sizes;
        Shapes {
            sequence: vec![batch, token, channel],
            matrix: vec![batch, token, state],
            states: vec![batch, channel, state],
            a: vec![channel, state],
            vector: vec![channel],
        }
    }
}

struct Shapes {
    sequence: Vec<usize>,
    matrix: Vec<usize>,
    states: Vec<usize>,
    a: Vec<usize>,
    vector: Vec<usize>,
}

/// Everything that forward and backward write, by name; what is not wanted is left out.
type Results = Vec<(&'static str, DType, Vec<f64>)>;

/// The inputs, which the case's dtypes hold exactly.
struct Inputs {
    case: Case,
    u: Vec<f64>,
    delta: Vec<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
    d: Option<Vec<f64>>,
    z: Option<Vec<f64>>,
    delta_bias: Option<Vec<f64>>,
    initial_state: Option<Vec<f64>>,
    grad_out: Vec<f64>,
    grad_last_state: Option<Vec<f64>>,
    token_map: Option<TokenMap>,
}

impl Inputs {
    fn random(case: Case) -> Self {
        let shapes = case.shapes();
        let draw = |name, shape: &[usize], range, dtype| random(7, name, shape.iter().product(), range, dtype);
        let activation = |name, shape: &[usize], range| draw(name, shape, range, case.dtype);
        let parameter = |name, shape: &[usize], range| draw(name, shape, range, DType::F32);
        // Without softplus the step size itself must be positive. With it, a few steps lie beyond its identity.
        let mut delta =
            activation("delta", &shapes.sequence, if case.delta_softplus { (-4.0, 1.0) } else { (0.01, 0.9) });
        if case.delta_softplus {
            delta.iter_mut().step_by(97).for_each(|delta| *delta = 21.0);
        }
        Self {
            case,
            u: activation("u", &shapes.sequence, (-2.0, 2.0)),
            delta,
            a: parameter("a", &shapes.a, (-4.0, -0.05)),
            b: activation("b", &shapes.matrix, (-1.5, 1.5)),
            c: activation("c", &shapes.matrix, (-1.5, 1.5)),
            d: case.d.then(|| parameter("d", &shapes.vector, (-1.0, 2.0))),
            z: case.z.then(|| activation("z", &shapes.sequence, (-4.0, 4.0))),
            delta_bias: case.delta_bias.then(|| parameter("delta_bias", &shapes.vector, (0.0, 0.5))),
            initial_state: case.initial_state.then(|| parameter("initial_state", &shapes.states, (-1.0, 1.0))),
            grad_out: activation("grad_out", &shapes.sequence, (-1.0, 1.0)),
            grad_last_state: case.last_state.then(|| parameter("grad_last_state", &shapes.states, (-1.0, 1.0))),
            token_map: case.token_map.then(|| TokenMap::new(permutation(7, case.sizes.token)).unwrap()),
        }
    }

    fn truth(&self) -> Results {
        let inputs = reference::Inputs {
            sizes: self.case.sizes,
            u: &self.u,
            delta: &self.delta,
            a: &self.a,
            b: &self.b,
            c: &self.c,
            d: self.d.as_deref(),
            z: self.z.as_deref(),
            delta_bias: self.delta_bias.as_deref(),
            delta_softplus: self.case.delta_softplus,
            initial_state: self.initial_state.as_deref(),
            token_map: self.token_map.as_ref(),
        };
        let outputs = reference::forward(&inputs).unwrap();
        let gradients = reference::backward(&inputs, &self.grad_out, self.grad_last_state.as_deref()).unwrap();
        let dtype = self.case.dtype;
        let mut results = vec![
            ("out", dtype, outputs.out),
            ("grad u", dtype, gradients.u),
            ("grad delta", dtype, gradients.delta),
            ("grad b", dtype, gradients.b),
            ("grad c", dtype, gradients.c),
            ("grad a", DType::F32, gradients.a),
        ];
        results.extend(self.case.last_state.then_some(("last_state", DType::F32, outputs.last_state)));
        results.extend(self.case.z.then_some(("grad z", dtype, gradients.z)));
        results.extend(self.case.d.then_some(("grad d", DType::F32, gradients.d)));
        results.extend(self.case.delta_bias.then_some(("grad delta_bias", DType::F32, gradients.delta_bias)));
        results.extend(self.case.initial_state.then_some(("grad initial_state", DType::F32, gradients.initial_state)));
        results
    }

    /// Runs forward and backward on the GPU, on guarded memory full of NaNs.
    fn run(&self, gpu: &Gpu) -> Results {
        let Case { dtype, placement, .. } = self.case;
        let shapes = self.case.shapes();
        let given = Given::of(self);
        let scan = given.scan(self.token_map.as_ref());
        let grad_out = DeviceTensor::of(&self.grad_out, dtype, &shapes.sequence, placement);
        let grad_last_state = self.grad_last_state.as_ref();
        let grad_last_state =
            grad_last_state.map(|values| DeviceTensor::of(values, DType::F32, &shapes.states, placement));

        let output = |dtype, shape: &[usize]| DeviceTensor::unwritten(dtype, shape, placement);
        let mut out = output(dtype, &shapes.sequence);
        let mut last_state = self.case.last_state.then(|| output(DType::F32, &shapes.states));
        let last = last_state.as_mut().map(DeviceTensor::view_mut);
        selective_scan::forward(&gpu.queue(), &scan, out.view_mut(), last).unwrap();

        let (mut grad_u, mut grad_delta) = (output(dtype, &shapes.sequence), output(dtype, &shapes.sequence));
        let (mut grad_b, mut grad_c) = (output(dtype, &shapes.matrix), output(dtype, &shapes.matrix));
        let mut grad_a = output(DType::F32, &shapes.a);
        let mut grad_d = given.d.is_some().then(|| output(DType::F32, &shapes.vector));
        let mut grad_z = given.z.is_some().then(|| output(dtype, &shapes.sequence));
        let mut grad_delta_bias = given.delta_bias.is_some().then(|| output(DType::F32, &shapes.vector));
        let mut grad_initial_state = given.initial_state.is_some().then(|| output(DType::F32, &shapes.states));
        let gradients = SelectiveScanGradients {
            u: grad_u.view_mut(),
            delta: grad_delta.view_mut(),
            a: grad_a.view_mut(),
            b: grad_b.view_mut(),
            c: grad_c.view_mut(),
            d: grad_d.as_mut().map(DeviceTensor::view_mut),
            z: grad_z.as_mut().map(DeviceTensor::view_mut),
            delta_bias: grad_delta_bias.as_mut().map(DeviceTensor::view_mut),
            initial_state: grad_initial_state.as_mut().map(DeviceTensor::view_mut),
        };
        let grad_last = grad_last_state.as_ref().map(DeviceTensor::view);
        selective_scan::backward(&gpu.queue(), &scan, &grad_out.view(), grad_last.as_ref(), gradients).unwrap();
        gpu.finish();

        let mut results = Vec::new();
        let required = [
            ("out", dtype, &out),
            ("grad u", dtype, &grad_u),
            ("grad delta", dtype, &grad_delta),
            ("grad b", dtype, &grad_b),
            ("grad c", dtype, &grad_c),
            ("grad a", DType::F32, &grad_a),
        ];
        let optional = [
            ("last_state", DType::F32, &last_state),
            ("grad z", dtype, &grad_z),
            ("grad d", DType::F32, &grad_d),
            ("grad delta_bias", DType::F32, &grad_delta_bias),
            ("grad initial_state", DType::F32, &grad_initial_state),
        ];
        let optional = optional.into_iter().filter_map(|(name, dtype, tensor)| Some((name, dtype, tensor.as_ref()?)));
        for (name, dtype, tensor) in required.into_iter().chain(optional) {
            results.push((name, dtype, tensor.read(name)));
        }
        results
    }

    /// Walks the segments and goes on from there to the output; returns that, and what the segments make of the first state one after the other.
    fn walk(&self, gpu: &Gpu) -> [Vec<f64>; 2] {
        let reference::Sizes { batch, channel, state, .. } = self.case.sizes;
        let given = Given::of(self);
        let scan = given.scan(self.token_map.as_ref());
        let segments = selective_scan::segments(&gpu.queue(), &scan).unwrap();
        assert!(segments > 1);
        let unwritten = |shape: &[usize]| DeviceTensor::unwritten(DType::F32, shape, Placement::Contiguous);
        let mut states = unwritten(&[batch * segments, channel, state]);
        let mut deltas = unwritten(&[batch * segments, channel]);
        selective_scan::walk(&gpu.queue(), &scan, states.view_mut(), deltas.view_mut()).unwrap();
        gpu.finish();
        let (own, steps) = (states.read("states"), deltas.read("deltas"));
        let mut last = vec![0.0; batch * channel * state];
        for (at, last) in last.iter_mut().enumerate() {
            let (row, channel_state) = (at / (channel * state) * segments, at % (channel * state));
            for segment in row..row + segments {
                let decay = (self.a[channel_state] * steps[segment * channel + channel_state / state]).exp();
                *last = decay * *last + own[segment * channel * state + channel_state];
            }
        }
        let mut out = DeviceTensor::unwritten(self.case.dtype, &self.case.shapes().sequence, self.case.placement);
        let (states, deltas) = (states.view_mut(), deltas.view());
        selective_scan::forward_after_walk(&gpu.queue(), &scan, states, &deltas, out.view_mut()).unwrap();
        gpu.finish();
        [out.read("out"), last]
    }

    /// Walks the segments back; returns what they make of the gradient by the last state, one after the other.
    fn walk_back(&self, gpu: &Gpu) -> Vec<f64> {
        let reference::Sizes { batch, channel, state, .. } = self.case.sizes;
        let given = Given::of(self);
        let scan = given.scan(self.token_map.as_ref());
        let segments = selective_scan::segments(&gpu.queue(), &scan).unwrap();
        let grad_out =
            DeviceTensor::of(&self.grad_out, self.case.dtype, &self.case.shapes().sequence, self.case.placement);
        let unwritten = |shape: &[usize]| DeviceTensor::unwritten(DType::F32, shape, Placement::Contiguous);
        let mut grad_states = unwritten(&[batch * segments, channel, state]);
        let mut deltas = unwritten(&[batch * segments, channel]);
        let outputs = (grad_states.view_mut(), deltas.view_mut());
        selective_scan::walk_back(&gpu.queue(), &scan, &grad_out.view(), outputs.0, outputs.1).unwrap();
        gpu.finish();
        let (own, steps) = (grad_states.read("grad_states"), deltas.read("deltas"));
        let mut first = self.grad_last_state.clone().unwrap_or_else(|| vec![0.0; batch * channel * state]);
        for (at, first) in first.iter_mut().enumerate() {
            let (row, channel_state) = (at / (channel * state) * segments, at % (channel * state));
            for segment in (row..row + segments).rev() {
                let decay = (self.a[channel_state] * steps[segment * channel + channel_state / state]).exp();
                *first = decay * *first + own[segment * channel * state + channel_state];
            }
        }
        first
    }

    fn check(&self, gpu: &Gpu) {
        let (results, truth) = (self.run(gpu), self.truth());
        assert_eq!(results.len(), truth.len());
        for ((name, dtype, got), (expected_name, _, expected)) in results.iter().zip(&truth) {
            assert_eq!(name, expected_name);
            assert_close(&format!("{:?}: {name}", self.case), got, expected, *dtype);
        }
    }
}

/// The inputs in device memory.
struct Given {
    u: DeviceTensor,
    delta: DeviceTensor,
    a: DeviceTensor,
    b: DeviceTensor,
    c: DeviceTensor,
    d: Option<DeviceTensor>,
    z: Option<DeviceTensor>,
    delta_bias: Option<DeviceTensor>,
    initial_state: Option<DeviceTensor>,
    delta_softplus: bool,
}

impl Given {
    fn of(inputs: &Inputs) -> Self {
        let Case { dtype, placement, delta_softplus, .. } = inputs.case;
        let shapes = inputs.case.shapes();
        let activation = |values: &[f64], shape: &[usize]| DeviceTensor::of(values, dtype, shape, placement);
        let parameter = |values: &[f64], shape: &[usize]| DeviceTensor::of(values, DType::F32, shape, placement);
        Self {
            u: activation(&inputs.u, &shapes.sequence),
            delta: activation(&inputs.delta, &shapes.sequence),
            a: parameter(&inputs.a, &shapes.a),
            b: activation(&inputs.b, &shapes.matrix),
            c: activation(&inputs.c, &shapes.matrix),
            d: inputs.d.as_ref().map(|values| parameter(values, &shapes.vector)),
            z: inputs.z.as_ref().map(|values| activation(values, &shapes.sequence)),
            delta_bias: inputs.delta_bias.as_ref().map(|values| parameter(values, &shapes.vector)),
            initial_state: inputs.initial_state.as_ref().map(|values| parameter(values, &shapes.states)),
            delta_softplus,
        }
    }

    fn scan<'a>(&'a self, token_map: Option<&'a TokenMap>) -> SelectiveScan<'a> {
        SelectiveScan {
            u: self.u.view(),
            delta: self.delta.view(),
            a: self.a.view(),
            b: self.b.view(),
            c: self.c.view(),
            d: self.d.as_ref().map(DeviceTensor::view),
            z: self.z.as_ref().map(DeviceTensor::view),
            delta_bias: self.delta_bias.as_ref().map(DeviceTensor::view),
            delta_softplus: self.delta_softplus,
            initial_state: self.initial_state.as_ref().map(DeviceTensor::view),
            token_map,
        }
    }
}

#[test]
fn a_walk_and_the_output_after_it_match_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (token, channel, state, dtype) in [
        (9, 33, 16, DType::F32),
        (37, 131, 8, DType::F16),
        (37, 131, 64, DType::Bf16),
        (263, 38, 32, DType::F32),
        (1061, 67, 16, DType::Bf16),
    ] {
        for placement in [Placement::Strided, Placement::Contiguous] {
            let inputs = Inputs::random(Case { placement, ..Case::full(2, token, channel, state, dtype) });
            let ([out, last], truth) = (inputs.walk(&gpu), inputs.truth());
            let expected = |name| &truth.iter().find(|(known, ..)| *known == name).unwrap().2;
            assert_close(&format!("{:?}: out", inputs.case), &out, expected("out"), dtype);
            assert_close(&format!("{:?}: last state", inputs.case), &last, expected("last_state"), dtype);
            let first = inputs.walk_back(&gpu);
            assert_close(&format!("{:?}: walk back", inputs.case), &first, expected("grad initial_state"), dtype);
        }
    }
}

#[test]
fn every_state_count_and_dtype_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for state in [8, 16, 32, 64] {
            Inputs::random(Case::full(3, 37, 131, state, dtype)).check(&gpu);
        }
    }
}

/// Enough blocks for a card: no thread shares a channel, and no sequence is split.
#[test]
fn a_large_batch_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (state, dtype) in [(8, DType::F32), (16, DType::F32), (16, DType::F16), (16, DType::Bf16)] {
        Inputs::random(Case::full(49, 19, 1003, state, dtype)).check(&gpu);
    }
}

/// Enough blocks for a card if four threads share a channel.
#[test]
fn a_middling_batch_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        Inputs::random(Case::full(40, 21, 203, 16, dtype)).check(&gpu);
    }
}

/// One short sequence: the warps of a block walk its segments, of which the last has fewer steps, or some have none.
#[test]
fn a_short_sequence_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (token, dtype) in
        [(366, DType::Bf16), (366, DType::F32), (1001, DType::F16), (1023, DType::F32), (65, DType::Bf16)]
    {
        for placement in [Placement::Strided, Placement::Contiguous] {
            Inputs::random(Case { placement, ..Case::full(1, token, 67, 16, dtype) }).check(&gpu);
        }
    }
}

/// One long sequence of few channels: its segments are walked by different blocks.
#[test]
fn a_split_sequence_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (state, dtype) in [(8, DType::F16), (16, DType::F32), (16, DType::Bf16), (32, DType::F32), (64, DType::Bf16)] {
        for placement in [Placement::Strided, Placement::Contiguous] {
            Inputs::random(Case { placement, ..Case::full(1, 1061, 38, state, dtype) }).check(&gpu);
        }
    }
}

#[test]
fn every_length_around_a_chunk_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for token in [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 95, 97, 130, 367] {
        Inputs::random(Case::full(2, token, 33, 16, DType::F32)).check(&gpu);
    }
}

#[test]
fn every_channel_count_around_a_block_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for state in [16, 64] {
        for channel in [1, 3, 31, 32, 33, 127, 128, 129, 259] {
            Inputs::random(Case::full(2, 11, channel, state, DType::Bf16)).check(&gpu);
        }
    }
}

#[test]
fn every_combination_of_options_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for bits in 0..256_u32 {
        let bit = |index: u32| bits >> index & 1 == 1;
        let case = Case {
            d: bit(0),
            z: bit(1),
            delta_bias: bit(2),
            delta_softplus: bit(3),
            initial_state: bit(4),
            last_state: bit(5),
            token_map: bit(6),
            placement: if bit(7) { Placement::Strided } else { Placement::Contiguous },
            ..Case::full(2, 13, 5, 16, DTYPES[bits as usize % 3])
        };
        Inputs::random(case).check(&gpu);
    }
}

#[test]
fn empty_tensors_give_zero_gradients() {
    let Some(gpu) = gpu() else { return };
    for (batch, token, channel) in [(0, 5, 7), (2, 0, 7), (2, 5, 0)] {
        Inputs::random(Case::full(batch, token, channel, 16, DType::F32)).check(&gpu);
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        let inputs = Inputs::random(Case::full(5, 141, 643, 16, dtype));
        let (first, second) = (inputs.run(&gpu), inputs.run(&gpu));
        for ((name, _, first), (_, _, second)) in first.iter().zip(&second) {
            let same = first.iter().zip(second).all(|(first, second)| first.to_bits() == second.to_bits());
            assert!(same, "{dtype}: {name}");
        }
    }
}

#[test]
fn a_thread_without_a_context_can_run_it() {
    let Some(gpu) = gpu() else { return };
    let case = Case::full(1, 9, 3, 16, DType::F32);
    let inputs = Inputs::random(case);
    let shapes = case.shapes();
    let tensor = |values: &[f64], shape: &[usize]| DeviceTensor::of(values, DType::F32, shape, Placement::Contiguous);
    let (u, delta, a) =
        (tensor(&inputs.u, &shapes.sequence), tensor(&inputs.delta, &shapes.sequence), tensor(&inputs.a, &shapes.a));
    let (b, c) = (tensor(&inputs.b, &shapes.matrix), tensor(&inputs.c, &shapes.matrix));
    let scan = SelectiveScan {
        u: u.view(),
        delta: delta.view(),
        a: a.view(),
        b: b.view(),
        c: c.view(),
        d: None,
        z: None,
        delta_bias: None,
        delta_softplus: true,
        initial_state: None,
        token_map: inputs.token_map.as_ref(),
    };
    let mut out = DeviceTensor::unwritten(DType::F32, &shapes.sequence, Placement::Contiguous);
    let out_view = out.view_mut();
    std::thread::scope(|scope| {
        let work = move || {
            // The null stream, which libtorch uses unless told otherwise.
            let queue = dim_kernels::Queue::Cuda { ordinal: 0, stream: std::ptr::null_mut() };
            selective_scan::forward(&queue, &scan, out_view, None).unwrap();
        };
        scope.spawn(work).join().unwrap();
    });
    gpu.finish();
    assert!(out.read("out").iter().all(|value| value.is_finite()));
}
