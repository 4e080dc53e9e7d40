//! The scan as its definition reads: f64, one step after the other, over plain contiguous slices.
//!
//! The slow truth that every kernel of this op is tested against.

use crate::error::KernelError;
use crate::token_map::TokenMap;

/// The sizes of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens in a sequence.
    pub token: usize,
    /// Channels of a token.
    pub channel: usize,
    /// States of a channel.
    pub state: usize,
}

/// The inputs of [`super::SelectiveScan`], each contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The sizes of all others.
    pub sizes: Sizes,
    /// `[batch, token, channel]`.
    pub u: &'a [f64],
    /// `[batch, token, channel]`, before bias and softplus.
    pub delta: &'a [f64],
    /// `[channel, state]`.
    pub a: &'a [f64],
    /// `[batch, token, state]`.
    pub b: &'a [f64],
    /// `[batch, token, state]`.
    pub c: &'a [f64],
    /// `[channel]`.
    pub d: Option<&'a [f64]>,
    /// `[batch, token, channel]`.
    pub z: Option<&'a [f64]>,
    /// `[channel]`.
    pub delta_bias: Option<&'a [f64]>,
    /// Whether the step size goes through softplus.
    pub delta_softplus: bool,
    /// `[batch, channel, state]`.
    pub initial_state: Option<&'a [f64]>,
    /// The order of the steps.
    pub token_map: Option<&'a TokenMap>,
}

/// What a scan yields.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// `[batch, token, channel]`.
    pub out: Vec<f64>,
    /// `[batch, channel, state]`.
    pub last_state: Vec<f64>,
}

/// The gradients of a scan, each in its input's shape; those of absent inputs are as if zeros had been given.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// `[batch, token, channel]`.
    pub u: Vec<f64>,
    /// `[batch, token, channel]`.
    pub delta: Vec<f64>,
    /// `[channel, state]`.
    pub a: Vec<f64>,
    /// `[batch, token, state]`.
    pub b: Vec<f64>,
    /// `[batch, token, state]`.
    pub c: Vec<f64>,
    /// `[channel]`.
    pub d: Vec<f64>,
    /// `[batch, token, channel]`; empty without a gate.
    pub z: Vec<f64>,
    /// `[channel]`.
    pub delta_bias: Vec<f64>,
    /// `[batch, channel, state]`.
    pub initial_state: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One channel of one sequence, by step.
struct Channel<'a> {
    inputs: &'a Inputs<'a>,
    batch: usize,
    channel: usize,
}

impl Channel<'_> {
    /// The token of a step, counted through the whole batch.
    fn token(&self, step: usize) -> usize {
        let token = self.inputs.token_map.map_or(step, |map| map.as_slice()[step] as usize);
        self.batch * self.inputs.sizes.token + token
    }

    /// Index of this channel at a step, in `[batch, token, channel]`.
    fn at(&self, step: usize) -> usize {
        self.token(step) * self.inputs.sizes.channel + self.channel
    }

    /// First index of this channel's states, in `[batch, channel, state]`.
    fn states(&self) -> usize {
        (self.batch * self.inputs.sizes.channel + self.channel) * self.inputs.sizes.state
    }

    /// Step size, and its derivative by the raw delta.
    fn delta(&self, step: usize) -> (f64, f64) {
        let raw = self.inputs.delta[self.at(step)] + self.inputs.delta_bias.map_or(0.0, |bias| bias[self.channel]);
        if self.inputs.delta_softplus && raw <= 20.0 { (raw.exp().ln_1p(), sigmoid(raw)) } else { (raw, 1.0) }
    }

    fn a(&self, state: usize) -> f64 {
        self.inputs.a[self.channel * self.inputs.sizes.state + state]
    }

    fn d(&self) -> f64 {
        self.inputs.d.map_or(0.0, |d| d[self.channel])
    }

    /// The states before the first step and after every step, `[1 + token, state]`.
    fn scan(&self) -> Vec<f64> {
        let Sizes { token, state, .. } = self.inputs.sizes;
        let mut h = match self.inputs.initial_state {
            Some(initial) => initial[self.states()..][..state].to_vec(),
            None => vec![0.0; state],
        };
        for step in 0..token {
            let (delta, _) = self.delta(step);
            let u = self.inputs.u[self.at(step)];
            for n in 0..state {
                let b = self.inputs.b[self.token(step) * state + n];
                h.push((delta * self.a(n)).exp() * h[step * state + n] + delta * b * u);
            }
        }
        h
    }

    /// The output of a step before the gate, from the states after it.
    fn y(&self, step: usize, h: &[f64]) -> f64 {
        let c = &self.inputs.c[self.token(step) * h.len()..][..h.len()];
        let sum: f64 = c.iter().zip(h).map(|(c, h)| c * h).sum();
        sum + self.d() * self.inputs.u[self.at(step)]
    }
}

fn check(op: &'static str, inputs: &Inputs<'_>) -> Result<(), KernelError> {
    let Sizes { batch, token, channel, state } = inputs.sizes;
    let sequence = batch * token * channel;
    let lengths = [
        ("u", Some(inputs.u), sequence),
        ("delta", Some(inputs.delta), sequence),
        ("a", Some(inputs.a), channel * state),
        ("b", Some(inputs.b), batch * token * state),
        ("c", Some(inputs.c), batch * token * state),
        ("d", inputs.d, channel),
        ("z", inputs.z, sequence),
        ("delta_bias", inputs.delta_bias, channel),
        ("initial_state", inputs.initial_state, batch * channel * state),
    ];
    for (argument, values, expected) in lengths {
        if let Some(values) = values {
            check_length(op, argument, values, expected)?;
        }
    }
    match inputs.token_map {
        Some(map) if map.len() != token => Err(KernelError::TokenMapLength { op, expected: token, got: map.len() }),
        _ => Ok(()),
    }
}

fn check_length(op: &'static str, argument: &'static str, values: &[f64], expected: usize) -> Result<(), KernelError> {
    if values.len() == expected {
        return Ok(());
    }
    Err(KernelError::Length { op, argument, expected, got: values.len() })
}

/// Runs the scan.
///
/// # Errors
/// [`KernelError::Length`] or [`KernelError::TokenMapLength`] for an argument that does not fit the sizes.
pub fn forward(inputs: &Inputs<'_>) -> Result<Outputs, KernelError> {
    check("selective_scan::reference::forward", inputs)?;
    let Sizes { batch, token, channel, state } = inputs.sizes;
    let mut out = vec![0.0; batch * token * channel];
    let mut last_state = vec![0.0; batch * channel * state];
    for (batch, channel) in (0..batch).flat_map(|batch| (0..channel).map(move |channel| (batch, channel))) {
        let this = Channel { inputs, batch, channel };
        let h = this.scan();
        for step in 0..token {
            let y = this.y(step, &h[(step + 1) * state..][..state]);
            let at = this.at(step);
            out[at] = inputs.z.map_or(y, |z| y * z[at] * sigmoid(z[at]));
        }
        last_state[this.states()..][..state].copy_from_slice(&h[token * state..]);
    }
    Ok(Outputs { out, last_state })
}

/// The sum of every channel's step sizes, `[batch, channel]`: the scan makes `exp(A Δ)` of its first state.
///
/// # Errors
/// As [`forward`].
pub fn sums_of_steps(inputs: &Inputs<'_>) -> Result<Vec<f64>, KernelError> {
    check("selective_scan::reference::sums_of_steps", inputs)?;
    let Sizes { batch, token, channel, .. } = inputs.sizes;
    let channels = (0..batch).flat_map(|batch| (0..channel).map(move |channel| Channel { inputs, batch, channel }));
    Ok(channels.map(|this| (0..token).map(|step| this.delta(step).0).sum()).collect())
}

/// Walks the chain rule backwards: the gradients of a loss from its gradients by `out` and by the last state.
///
/// # Errors
/// [`KernelError::Length`] or [`KernelError::TokenMapLength`] for an argument that does not fit the sizes.
pub fn backward(
    inputs: &Inputs<'_>,
    grad_out: &[f64],
    grad_last_state: Option<&[f64]>,
) -> Result<Gradients, KernelError> {
    let op = "selective_scan::reference::backward";
    check(op, inputs)?;
    let Sizes { batch, token, channel, state } = inputs.sizes;
    check_length(op, "grad_out", grad_out, batch * token * channel)?;
    if let Some(grad_last_state) = grad_last_state {
        check_length(op, "grad_last_state", grad_last_state, batch * channel * state)?;
    }
    let mut gradients = Gradients {
        u: vec![0.0; batch * token * channel],
        delta: vec![0.0; batch * token * channel],
        a: vec![0.0; channel * state],
        b: vec![0.0; batch * token * state],
        c: vec![0.0; batch * token * state],
        d: vec![0.0; channel],
        z: vec![0.0; inputs.z.map_or(0, <[f64]>::len)],
        delta_bias: vec![0.0; channel],
        initial_state: vec![0.0; batch * channel * state],
    };
    for (batch, channel) in (0..batch).flat_map(|batch| (0..channel).map(move |channel| (batch, channel))) {
        let this = Channel { inputs, batch, channel };
        let h = this.scan();
        // The gradient by the states after the step at hand.
        let grad_h = &mut gradients.initial_state[this.states()..][..state];
        if let Some(grad_last_state) = grad_last_state {
            grad_h.copy_from_slice(&grad_last_state[this.states()..][..state]);
        }
        for step in (0..token).rev() {
            let at = this.at(step);
            let (before, after) = h[step * state..][..2 * state].split_at(state);
            let (delta, grad_raw) = this.delta(step);
            let u = inputs.u[at];

            let mut grad_y = grad_out[at];
            if let Some(z) = inputs.z {
                let (z, s) = (z[at], sigmoid(z[at]));
                gradients.z[at] = grad_y * this.y(step, after) * s * (1.0 + z * (1.0 - s));
                grad_y *= z * s;
            }
            gradients.d[channel] += grad_y * u;

            let mut grad_u = grad_y * this.d();
            let mut grad_delta = 0.0;
            for n in 0..state {
                let bc = this.token(step) * state + n;
                let (a, b, c) = (this.a(n), inputs.b[bc], inputs.c[bc]);
                let decay = (delta * a).exp();
                grad_h[n] += grad_y * c;
                gradients.c[bc] += grad_y * after[n];
                gradients.b[bc] += grad_h[n] * delta * u;
                gradients.a[channel * state + n] += grad_h[n] * decay * before[n] * delta;
                grad_u += grad_h[n] * delta * b;
                grad_delta += grad_h[n] * (decay * before[n] * a + b * u);
                grad_h[n] *= decay;
            }
            gradients.u[at] = grad_u;
            gradients.delta[at] = grad_delta * grad_raw;
            gradients.delta_bias[channel] += grad_delta * grad_raw;
        }
    }
    Ok(gradients)
}
