//! The op as its definition reads: f64, one token after the other, over plain contiguous slices.
//!
//! The slow truth that every kernel of this op is tested against.

use super::Norm;
use crate::error::KernelError;

/// The sizes of the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens in a sequence.
    pub token: usize,
    /// Channels of a token.
    pub channel: usize,
}

/// The inputs of [`super::NormModulate`] and the stream, each contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The sizes of all others.
    pub sizes: Sizes,
    /// `[batch, token, channel]`.
    pub x: &'a [f64],
    /// `[batch, token, channel]`.
    pub y: Option<&'a [f64]>,
    /// `[batch, channel]`.
    pub gate: Option<&'a [f64]>,
    /// Added to the gate.
    pub gate_offset: f64,
    /// The norm.
    pub norm: Norm,
    /// `[channel]`.
    pub weight: Option<&'a [f64]>,
    /// `[channel]`.
    pub bias: Option<&'a [f64]>,
    /// `[batch, channel]`.
    pub scale: Option<&'a [f64]>,
    /// `[batch, channel]`.
    pub shift: Option<&'a [f64]>,
}

/// What the op computes, `[batch, token, channel]` unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// The stream with the branch added.
    pub r: Vec<f64>,
    /// The normed and modulated stream.
    pub out: Vec<f64>,
    /// The mean that the norm takes off, and the inverse of what it divides by, `[batch, token, 2]`.
    pub statistics: Vec<f64>,
}

/// The gradients, each in its input's shape, as if every optional input had been given.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// `[batch, token, channel]`.
    pub x: Vec<f64>,
    /// `[batch, token, channel]`.
    pub y: Vec<f64>,
    /// `[batch, channel]`.
    pub gate: Vec<f64>,
    /// `[channel]`.
    pub weight: Vec<f64>,
    /// `[channel]`.
    pub bias: Vec<f64>,
    /// `[batch, channel]`.
    pub scale: Vec<f64>,
    /// `[batch, channel]`.
    pub shift: Vec<f64>,
}

impl Inputs<'_> {
    fn check(&self, op: &'static str, upstream: [Option<&[f64]>; 2]) -> Result<(), KernelError> {
        let Sizes { batch, token, channel } = self.sizes;
        let (sequence, row) = (batch * token * channel, batch * channel);
        let lengths = [
            ("x", Some(self.x), sequence),
            ("y", self.y, sequence),
            ("gate", self.gate, row),
            ("weight", self.weight, channel),
            ("bias", self.bias, channel),
            ("scale", self.scale, row),
            ("shift", self.shift, row),
            ("grad_out", upstream[0], sequence),
            ("grad_r", upstream[1], sequence),
        ];
        for (argument, values, expected) in lengths {
            let got = values.map_or(expected, <[f64]>::len);
            if got != expected {
                return Err(KernelError::Length { op, argument, expected, got });
            }
        }
        Ok(())
    }

    fn gate(&self, batch: usize, channel: usize) -> f64 {
        self.gate.map_or(1.0, |gate| self.gate_offset + gate[batch * self.sizes.channel + channel])
    }

    fn scale(&self, batch: usize, channel: usize) -> f64 {
        1.0 + self.scale.map_or(0.0, |scale| scale[batch * self.sizes.channel + channel])
    }

    fn weight(&self, channel: usize) -> f64 {
        self.weight.map_or(1.0, |weight| weight[channel])
    }

    fn bias(&self, channel: usize) -> f64 {
        self.bias.map_or(0.0, |bias| bias[channel])
    }

    /// Every token: its sequence, and its elements in `[batch, token, channel]`.
    fn tokens(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + use<> {
        let Sizes { batch, token, channel } = self.sizes;
        (0..batch * token).map(move |row| (row / token.max(1), row * channel..(row + 1) * channel))
    }

    /// A token's stream with the branch added.
    fn r(&self, batch: usize, token: &std::ops::Range<usize>) -> Vec<f64> {
        let x = &self.x[token.clone()];
        match self.y {
            Some(y) => {
                let y = &y[token.clone()];
                (0..x.len()).map(|c| x[c] + self.gate(batch, c) * y[c]).collect()
            }
            None => x.to_vec(),
        }
    }

    /// The mean that the norm takes off, and the inverse of what it divides by.
    fn statistics(&self, r: &[f64]) -> (f64, f64) {
        let mean_square = |mean: f64| mean_of(r.iter().map(|r| (r - mean).powi(2)));
        match self.norm {
            Norm::None => (0.0, 1.0),
            Norm::Rms { eps } => (0.0, 1.0 / (mean_square(0.0) + f64::from(eps)).sqrt()),
            Norm::Layer { eps } => {
                let mean = mean_of(r.iter().copied());
                (mean, 1.0 / (mean_square(mean) + f64::from(eps)).sqrt())
            }
        }
    }
}

fn mean_of(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// Runs the op.
///
/// # Errors
/// [`KernelError::Length`] for an argument that does not fit the sizes.
pub fn forward(inputs: &Inputs<'_>) -> Result<Outputs, KernelError> {
    inputs.check("norm_modulate::reference::forward", [None, None])?;
    let mut outputs = Outputs { r: Vec::new(), out: Vec::new(), statistics: Vec::new() };
    for (batch, token) in inputs.tokens() {
        let r = inputs.r(batch, &token);
        let (mean, rstd) = inputs.statistics(&r);
        outputs.statistics.extend([mean, rstd]);
        for (c, r) in r.iter().enumerate() {
            let normed = (r - mean) * rstd * inputs.weight(c) + inputs.bias(c);
            let shift = inputs.shift.map_or(0.0, |shift| shift[batch * inputs.sizes.channel + c]);
            outputs.out.push(normed * inputs.scale(batch, c) + shift);
        }
        outputs.r.extend(r);
    }
    Ok(outputs)
}

/// The gradients of a loss from its gradients by the output and, from later readers, by the stream; absent ones count as zeros.
///
/// # Errors
/// [`KernelError::Length`] for an argument that does not fit the sizes.
pub fn backward(
    inputs: &Inputs<'_>,
    grad_out: Option<&[f64]>,
    grad_r: Option<&[f64]>,
) -> Result<Gradients, KernelError> {
    inputs.check("norm_modulate::reference::backward", [grad_out, grad_r])?;
    let Sizes { batch: batches, channel: channels, .. } = inputs.sizes;
    let (row, vector) = (vec![0.0; batches * channels], vec![0.0; channels]);
    let mut gradients = Gradients {
        x: vec![0.0; inputs.x.len()],
        y: vec![0.0; inputs.x.len()],
        gate: row.clone(),
        weight: vector.clone(),
        bias: vector,
        scale: row.clone(),
        shift: row,
    };
    for (batch, token) in inputs.tokens() {
        let r = inputs.r(batch, &token);
        let (mean, rstd) = inputs.statistics(&r);
        let n: Vec<f64> = r.iter().map(|r| (r - mean) * rstd).collect();
        // By the normed stream.
        let mut grad_n = vec![0.0; channels];
        for c in 0..channels {
            let g = grad_out.map_or(0.0, |gradient| gradient[token.start + c]);
            let at = batch * channels + c;
            gradients.shift[at] += g;
            gradients.scale[at] += g * (n[c] * inputs.weight(c) + inputs.bias(c));
            gradients.weight[c] += g * inputs.scale(batch, c) * n[c];
            gradients.bias[c] += g * inputs.scale(batch, c);
            grad_n[c] = g * inputs.scale(batch, c) * inputs.weight(c);
        }
        let mean_n = mean_of(grad_n.iter().copied());
        let mean_product = mean_of((0..channels).map(|c| grad_n[c] * n[c]));
        for c in 0..channels {
            let of_norm = match inputs.norm {
                Norm::None => grad_n[c],
                Norm::Rms { .. } => rstd * (grad_n[c] - n[c] * mean_product),
                Norm::Layer { .. } => rstd * (grad_n[c] - mean_n - n[c] * mean_product),
            };
            let at = token.start + c;
            let grad_r = of_norm + grad_r.map_or(0.0, |gradient| gradient[at]);
            gradients.x[at] = grad_r;
            gradients.y[at] = grad_r * inputs.gate(batch, c);
            gradients.gate[batch * channels + c] += grad_r * inputs.y.map_or(0.0, |y| y[at]);
        }
    }
    Ok(gradients)
}
