//! A selective scan with random inputs: run on the CPU, and by the reference.

use dim_kernels::selective_scan::{self, SelectiveScan, SelectiveScanGradients, reference};
use dim_kernels::{Queue, TokenMap};

use crate::buffer::{Buffer, Placement, assert_close, assert_close_to, permutation, random, to_f64};

/// What a test varies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) token: usize,
    pub(crate) channel: usize,
    pub(crate) state: usize,
    pub(crate) d: bool,
    pub(crate) z: bool,
    pub(crate) delta_bias: bool,
    pub(crate) delta_softplus: bool,
    pub(crate) initial_state: bool,
    pub(crate) last_state: bool,
    pub(crate) token_map: bool,
    pub(crate) placement: Placement,
    pub(crate) seed: u64,
}

impl Case {
    /// Everything that can be given is.
    pub(crate) fn full(batch: usize, token: usize, channel: usize, state: usize) -> Self {
        Self {
            batch,
            token,
            channel,
            state,
            d: true,
            z: true,
            delta_bias: true,
            delta_softplus: true,
            initial_state: true,
            last_state: true,
            token_map: true,
            placement: Placement::Strided,
            seed: 7,
        }
    }

    fn sizes(&self) -> reference::Sizes {
        reference::Sizes { batch: self.batch, token: self.token, channel: self.channel, state: self.state }
    }

    pub(crate) fn sequence(&self) -> [usize; 3] {
        [self.batch, self.token, self.channel]
    }

    pub(crate) fn matrix(&self) -> [usize; 3] {
        [self.batch, self.token, self.state]
    }

    pub(crate) fn states(&self) -> [usize; 3] {
        [self.batch, self.channel, self.state]
    }
}

/// The inputs, and the gradients that come from above.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) case: Case,
    pub(crate) u: Vec<f32>,
    pub(crate) delta: Vec<f32>,
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
    pub(crate) c: Vec<f32>,
    pub(crate) d: Option<Vec<f32>>,
    pub(crate) z: Option<Vec<f32>>,
    pub(crate) delta_bias: Option<Vec<f32>>,
    pub(crate) initial_state: Option<Vec<f32>>,
    pub(crate) token_map: Option<TokenMap>,
    pub(crate) grad_out: Vec<f32>,
    pub(crate) grad_last_state: Option<Vec<f32>>,
}

/// What forward and backward wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Results {
    pub(crate) out: Vec<f32>,
    pub(crate) last_state: Option<Vec<f32>>,
    pub(crate) u: Vec<f32>,
    pub(crate) delta: Vec<f32>,
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
    pub(crate) c: Vec<f32>,
    pub(crate) d: Option<Vec<f32>>,
    pub(crate) z: Option<Vec<f32>>,
    pub(crate) delta_bias: Option<Vec<f32>>,
    pub(crate) initial_state: Option<Vec<f32>>,
}

impl Inputs {
    pub(crate) fn random(case: Case) -> Self {
        let Case { batch, token, channel, state, seed, .. } = case;
        let sequence = batch * token * channel;
        let draw = |name, len, low, high| random(seed, name, len, low, high);
        let maybe = |given: bool, name, len, low, high| given.then(|| random(seed, name, len, low, high));
        // Without softplus the step size itself must be positive.
        let (low, high) = if case.delta_softplus { (-4.0, 1.0) } else { (0.01, 0.9) };
        Self {
            case,
            u: draw("u", sequence, -2.0, 2.0),
            delta: draw("delta", sequence, low, high),
            a: draw("a", channel * state, -4.0, -0.05),
            b: draw("b", batch * token * state, -1.5, 1.5),
            c: draw("c", batch * token * state, -1.5, 1.5),
            d: maybe(case.d, "d", channel, -1.0, 2.0),
            z: maybe(case.z, "z", sequence, -4.0, 4.0),
            delta_bias: maybe(case.delta_bias, "delta_bias", channel, 0.0, 0.5),
            initial_state: maybe(case.initial_state, "initial_state", batch * channel * state, -1.0, 1.0),
            token_map: case.token_map.then(|| TokenMap::new(permutation(seed, token)).unwrap()),
            grad_out: draw("grad_out", sequence, -1.0, 1.0),
            grad_last_state: maybe(case.last_state, "grad_last_state", batch * channel * state, -1.0, 1.0),
        }
    }

    /// Runs forward and backward on the CPU, on guarded memory full of NaNs.
    pub(crate) fn run(&self) -> Results {
        let Case { channel, state, placement, .. } = self.case;
        let [sequence, matrix, states] = [self.case.sequence(), self.case.matrix(), self.case.states()];
        let given = Given::of(self);
        let scan = given.scan(self.token_map.as_ref());

        let unwritten = |shape: &[usize]| Buffer::unwritten(shape, placement);
        let mut out = unwritten(&sequence);
        let mut last_state = self.case.last_state.then(|| unwritten(&states));
        selective_scan::forward(&Queue::Cpu, &scan, out.view_mut(), last_state.as_mut().map(Buffer::view_mut)).unwrap();

        let grad_out = Buffer::of(&self.grad_out, &sequence, placement);
        let grad_last_state = self.grad_last_state.as_ref().map(|values| Buffer::of(values, &states, placement));
        let (mut grad_u, mut grad_delta) = (unwritten(&sequence), unwritten(&sequence));
        let mut grad_a = unwritten(&[channel, state]);
        let (mut grad_b, mut grad_c) = (unwritten(&matrix), unwritten(&matrix));
        let mut grad_d = given.d.is_some().then(|| unwritten(&[channel]));
        let mut grad_z = given.z.is_some().then(|| unwritten(&sequence));
        let mut grad_delta_bias = given.delta_bias.is_some().then(|| unwritten(&[channel]));
        let mut grad_initial_state = given.initial_state.is_some().then(|| unwritten(&states));
        let gradients = SelectiveScanGradients {
            u: grad_u.view_mut(),
            delta: grad_delta.view_mut(),
            a: grad_a.view_mut(),
            b: grad_b.view_mut(),
            c: grad_c.view_mut(),
            d: grad_d.as_mut().map(Buffer::view_mut),
            z: grad_z.as_mut().map(Buffer::view_mut),
            delta_bias: grad_delta_bias.as_mut().map(Buffer::view_mut),
            initial_state: grad_initial_state.as_mut().map(Buffer::view_mut),
        };
        let grad_last_view = grad_last_state.as_ref().map(Buffer::view);
        selective_scan::backward(&Queue::Cpu, &scan, &grad_out.view(), grad_last_view.as_ref(), gradients).unwrap();

        let values = |buffer: Option<Buffer>| buffer.map(|buffer| buffer.values());
        Results {
            out: out.values(),
            last_state: values(last_state),
            u: grad_u.values(),
            delta: grad_delta.values(),
            a: grad_a.values(),
            b: grad_b.values(),
            c: grad_c.values(),
            d: values(grad_d),
            z: values(grad_z),
            delta_bias: values(grad_delta_bias),
            initial_state: values(grad_initial_state),
        }
    }

    /// Walks on the CPU, on guarded memory full of NaNs, and goes on from there to the output: states, sums of step sizes, output.
    pub(crate) fn walk(&self) -> [Vec<f32>; 3] {
        let given = Given::of(self);
        let scan = given.scan(self.token_map.as_ref());
        let Case { batch, channel, placement, .. } = self.case;
        assert_eq!(selective_scan::segments(&Queue::Cpu, &scan).unwrap(), 1);
        let mut states = Buffer::unwritten(&self.case.states(), Placement::Contiguous);
        let mut deltas = Buffer::unwritten(&[batch, channel], Placement::Contiguous);
        selective_scan::walk(&Queue::Cpu, &scan, states.view_mut(), deltas.view_mut()).unwrap();
        let mut out = Buffer::unwritten(&self.case.sequence(), placement);
        let walked = states.values();
        selective_scan::forward_after_walk(&Queue::Cpu, &scan, states.view_mut(), &deltas.view(), out.view_mut())
            .unwrap();
        [walked, deltas.values(), out.values()]
    }

    /// Walks back on the CPU, on guarded memory full of NaNs: what the outputs bring to the gradient by the first state, and the sums of step sizes.
    pub(crate) fn walk_back(&self) -> [Vec<f32>; 2] {
        let given = Given::of(self);
        let scan = given.scan(self.token_map.as_ref());
        let Case { batch, channel, placement, .. } = self.case;
        let grad_out = Buffer::of(&self.grad_out, &self.case.sequence(), placement);
        let mut grad_states = Buffer::unwritten(&self.case.states(), Placement::Contiguous);
        let mut deltas = Buffer::unwritten(&[batch, channel], Placement::Contiguous);
        let outputs = (grad_states.view_mut(), deltas.view_mut());
        selective_scan::walk_back(&Queue::Cpu, &scan, &grad_out.view(), outputs.0, outputs.1).unwrap();
        [grad_states.values(), deltas.values()]
    }

    /// The sums of the step sizes by the reference.
    pub(crate) fn reference_sums_of_steps(&self) -> Vec<f64> {
        self.with_reference(|inputs| reference::sums_of_steps(inputs).unwrap())
    }

    /// The largest of the terms `delta u B[n] C[n]`, gated, of which the outputs are sums.
    fn largest_term(&self) -> f64 {
        let Case { channel, state, .. } = self.case;
        let terms = (0..self.u.len()).map(|at| {
            let (row, of_channel) = (at / channel * state, at % channel);
            let raw = f64::from(self.delta[at]) + self.delta_bias.as_ref().map_or(0.0, |bias| bias[of_channel].into());
            let delta = if self.case.delta_softplus { raw.max(0.0) + (-raw.abs()).exp().ln_1p() } else { raw };
            let gate = self.z.as_ref().map_or(1.0, |z| f64::from(z[at]) / (1.0 + f64::from(-z[at]).exp()));
            let states = (row..row + state).map(|n| f64::from(self.b[n] * self.c[n]).abs());
            (delta * f64::from(self.u[at]) * gate).abs() * states.fold(0.0, f64::max)
        });
        terms.fold(0.0, f64::max)
    }

    /// Runs the reference on the same inputs.
    pub(crate) fn run_reference(&self) -> (reference::Outputs, reference::Gradients) {
        self.with_reference(|inputs| {
            let grad_last_state = self.grad_last_state.as_deref().map(to_f64);
            let outputs = reference::forward(inputs).unwrap();
            let gradients = reference::backward(inputs, &to_f64(&self.grad_out), grad_last_state.as_deref()).unwrap();
            (outputs, gradients)
        })
    }

    /// What `f` makes of the reference's inputs.
    fn with_reference<T>(&self, f: impl FnOnce(&reference::Inputs<'_>) -> T) -> T {
        let maybe = |values: &Option<Vec<f32>>| values.as_deref().map(to_f64);
        let [u, delta, a, b, c] = [&self.u, &self.delta, &self.a, &self.b, &self.c].map(|values| to_f64(values));
        let (d, z, delta_bias) = (maybe(&self.d), maybe(&self.z), maybe(&self.delta_bias));
        let initial_state = maybe(&self.initial_state);
        f(&reference::Inputs {
            sizes: self.case.sizes(),
            u: &u,
            delta: &delta,
            a: &a,
            b: &b,
            c: &c,
            d: d.as_deref(),
            z: z.as_deref(),
            delta_bias: delta_bias.as_deref(),
            delta_softplus: self.case.delta_softplus,
            initial_state: initial_state.as_deref(),
            token_map: self.token_map.as_ref(),
        })
    }
}

/// The inputs in memory.
struct Given {
    u: Buffer,
    delta: Buffer,
    a: Buffer,
    b: Buffer,
    c: Buffer,
    d: Option<Buffer>,
    z: Option<Buffer>,
    delta_bias: Option<Buffer>,
    initial_state: Option<Buffer>,
    delta_softplus: bool,
}

impl Given {
    fn of(inputs: &Inputs) -> Self {
        let Case { channel, state, placement, delta_softplus, .. } = inputs.case;
        let [sequence, matrix, states] = [inputs.case.sequence(), inputs.case.matrix(), inputs.case.states()];
        let given = |values: &[f32], shape: &[usize]| Buffer::of(values, shape, placement);
        let maybe = |values: &Option<Vec<f32>>, shape: &[usize]| values.as_ref().map(|values| given(values, shape));
        Self {
            u: given(&inputs.u, &sequence),
            delta: given(&inputs.delta, &sequence),
            a: given(&inputs.a, &[channel, state]),
            b: given(&inputs.b, &matrix),
            c: given(&inputs.c, &matrix),
            d: maybe(&inputs.d, &[channel]),
            z: maybe(&inputs.z, &sequence),
            delta_bias: maybe(&inputs.delta_bias, &[channel]),
            initial_state: maybe(&inputs.initial_state, &states),
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
            d: self.d.as_ref().map(Buffer::view),
            z: self.z.as_ref().map(Buffer::view),
            delta_bias: self.delta_bias.as_ref().map(Buffer::view),
            delta_softplus: self.delta_softplus,
            initial_state: self.initial_state.as_ref().map(Buffer::view),
            token_map,
        }
    }
}

/// Compares everything that a run wrote with the reference.
pub(crate) fn assert_matches_reference(inputs: &Inputs, tolerance: f64) {
    let results = inputs.run();
    let (outputs, gradients) = inputs.run_reference();
    let case = inputs.case;
    let check = |what: &str, got: &Option<Vec<f32>>, truth: &[f64], terms| {
        if let Some(got) = got {
            assert_close(&format!("{what} of {case:?}"), got, truth, terms, tolerance);
        }
    };
    let tokens = case.batch * case.token;
    // Where the terms of every output happen to cancel, their roundings do not.
    let term = inputs.largest_term();
    assert_close_to(&format!("out of {case:?}"), &results.out, &outputs.out, term, tolerance);
    check("last_state", &results.last_state, &outputs.last_state, 0);
    check("grad u", &Some(results.u), &gradients.u, 0);
    check("grad delta", &Some(results.delta), &gradients.delta, 0);
    check("grad a", &Some(results.a), &gradients.a, 0);
    check("grad b", &Some(results.b), &gradients.b, case.channel);
    check("grad c", &Some(results.c), &gradients.c, case.channel);
    check("grad d", &results.d, &gradients.d, tokens);
    check("grad z", &results.z, &gradients.z, 0);
    check("grad delta_bias", &results.delta_bias, &gradients.delta_bias, tokens);
    check("grad initial_state", &results.initial_state, &gradients.initial_state, 0);
}
