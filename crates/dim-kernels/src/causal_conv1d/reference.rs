//! The convolution as its definition reads: f64, one step after the other, over plain contiguous slices.
//!
//! The slow truth that every kernel of this op is tested against.

use crate::error::KernelError;
use crate::token_map::TokenMap;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens in a sequence.
    pub token: usize,
    /// Channels of a token.
    pub channel: usize,
    /// Taps of a filter.
    pub width: usize,
}

/// The inputs of [`super::CausalConv1d`], each contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The sizes of all others.
    pub sizes: Sizes,
    /// `[batch, token, channel]`.
    pub x: &'a [f64],
    /// `[channel, width]`.
    pub weight: &'a [f64],
    /// `[channel]`.
    pub bias: Option<&'a [f64]>,
    /// Whether the result goes through SiLU.
    pub silu: bool,
    /// The order of the steps.
    pub token_map: Option<&'a TokenMap>,
}

/// The gradients of a convolution, each in its input's shape; an absent bias counts as zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// `[batch, token, channel]`.
    pub x: Vec<f64>,
    /// `[channel, width]`.
    pub weight: Vec<f64>,
    /// `[channel]`.
    pub bias: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Inputs<'_> {
    fn check(&self, op: &'static str, grad_out: Option<&[f64]>) -> Result<(), KernelError> {
        let Sizes { batch, token, channel, width } = self.sizes;
        let lengths = [
            ("x", Some(self.x), batch * token * channel),
            ("weight", Some(self.weight), channel * width),
            ("bias", self.bias, channel),
            ("grad_out", grad_out, batch * token * channel),
        ];
        for (argument, values, expected) in lengths {
            let got = values.map_or(expected, <[f64]>::len);
            if got != expected {
                return Err(KernelError::Length { op, argument, expected, got });
            }
        }
        match self.token_map {
            Some(map) if map.len() != token => Err(KernelError::TokenMapLength { op, expected: token, got: map.len() }),
            _ => Ok(()),
        }
    }

    /// Index in `[batch, token, channel]` of a channel at a step.
    fn at(&self, batch: usize, step: usize, channel: usize) -> usize {
        let token = self.token_map.map_or(step, |map| map.as_slice()[step] as usize);
        (batch * self.sizes.token + token) * self.sizes.channel + channel
    }

    /// The step that a tap reads, if it is not before the first one.
    fn step_of_tap(&self, step: usize, tap: usize) -> Option<usize> {
        (step + tap + 1).checked_sub(self.sizes.width)
    }

    /// The result before SiLU.
    fn y(&self, batch: usize, step: usize, channel: usize) -> f64 {
        let mut y = self.bias.map_or(0.0, |bias| bias[channel]);
        for tap in 0..self.sizes.width {
            if let Some(from) = self.step_of_tap(step, tap) {
                y += self.weight[channel * self.sizes.width + tap] * self.x[self.at(batch, from, channel)];
            }
        }
        y
    }

    /// Every batch, step and channel.
    fn indices(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let Sizes { batch, token, channel, .. } = self.sizes;
        (0..batch).flat_map(move |b| (0..token).flat_map(move |l| (0..channel).map(move |c| (b, l, c))))
    }
}

/// Runs the convolution: `[batch, token, channel]`.
///
/// # Errors
/// [`KernelError::Length`] or [`KernelError::TokenMapLength`] for an argument that does not fit the sizes.
pub fn forward(inputs: &Inputs<'_>) -> Result<Vec<f64>, KernelError> {
    inputs.check("causal_conv1d::reference::forward", None)?;
    let mut out = vec![0.0; inputs.x.len()];
    for (batch, step, channel) in inputs.indices() {
        let y = inputs.y(batch, step, channel);
        out[inputs.at(batch, step, channel)] = if inputs.silu { y * sigmoid(y) } else { y };
    }
    Ok(out)
}

/// The gradients of a loss from its gradient by the output.
///
/// # Errors
/// [`KernelError::Length`] or [`KernelError::TokenMapLength`] for an argument that does not fit the sizes.
pub fn backward(inputs: &Inputs<'_>, grad_out: &[f64]) -> Result<Gradients, KernelError> {
    inputs.check("causal_conv1d::reference::backward", Some(grad_out))?;
    let Sizes { channel: channels, width, .. } = inputs.sizes;
    let mut gradients =
        Gradients { x: vec![0.0; inputs.x.len()], weight: vec![0.0; channels * width], bias: vec![0.0; channels] };
    for (batch, step, channel) in inputs.indices() {
        let mut grad_y = grad_out[inputs.at(batch, step, channel)];
        if inputs.silu {
            let y = inputs.y(batch, step, channel);
            let s = sigmoid(y);
            grad_y *= s * (1.0 + y * (1.0 - s));
        }
        gradients.bias[channel] += grad_y;
        for tap in 0..width {
            if let Some(from) = inputs.step_of_tap(step, tap) {
                let from = inputs.at(batch, from, channel);
                gradients.x[from] += grad_y * inputs.weight[channel * width + tap];
                gradients.weight[channel * width + tap] += grad_y * inputs.x[from];
            }
        }
    }
    Ok(gradients)
}
