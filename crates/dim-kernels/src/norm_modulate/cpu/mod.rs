//! The op on the host's cores.
//!
//! A task is some neighbouring tokens of one sequence, taken one after the other; a row stays in the first cache between
//! the statistics and the output.
//!
//! Tasks and the order of every sum depend on the sizes alone, hence not on the number of threads.

mod backward;
mod forward;

use super::shape::Sizes;
use super::{Norm, NormModulate, NormModulateGradients, NormModulateOutputs, Upstream};
use crate::lanes::{self, Lanes};
use crate::rows::{Rows, RowsMut};
use crate::view::TensorView;

/// Tokens of a task.
const TOKENS: usize = 32;

/// Where the inputs lie, and what a channel's numbers come to.
struct Inputs<'a> {
    sizes: Sizes,
    norm: Norm,
    y: Option<Rows<'a>>,
    /// `[batch, 3, channel]`: what `y` is multiplied with; what the normed stream is multiplied with; what is then added.
    vectors: Vec<f32>,
    /// A row that stands for absent ones.
    zeros: Vec<f32>,
}

/// One sequence's part of [`Inputs::vectors`].
#[derive(Clone, Copy)]
struct Vectors<'a> {
    gate: &'a [f32],
    factor: &'a [f32],
    summand: &'a [f32],
}

impl<'a> Inputs<'a> {
    fn new(op: &NormModulate<'a>, sizes: Sizes) -> Self {
        let gate = op.branch.and_then(|branch| branch.gate).map(|gate| Rows::new(&gate));
        let gate_offset = op.branch.map_or(0.0, |branch| branch.gate_offset);
        let [weight, bias, scale, shift] =
            [op.weight, op.bias, op.scale, op.shift].map(|view| view.map(|view| Rows::new(&view)));
        let at = |rows: Option<Rows<'a>>, row, channel: usize, otherwise| {
            rows.map_or(otherwise, |rows| rows.row(0, row)[channel])
        };
        let mut vectors = Vec::with_capacity(sizes.batch * 3 * sizes.channel);
        for batch in 0..sizes.batch {
            let channels = 0..sizes.channel;
            vectors.extend(channels.clone().map(|c| gate.map_or(1.0, |gate| gate_offset + gate.row(0, batch)[c])));
            vectors.extend(channels.clone().map(|c| at(weight, 0, c, 1.0) * (1.0 + at(scale, batch, c, 0.0))));
            vectors.extend(
                channels.map(|c| at(bias, 0, c, 0.0) * (1.0 + at(scale, batch, c, 0.0)) + at(shift, batch, c, 0.0)),
            );
        }
        let y = op.branch.map(|branch| Rows::new(&branch.y));
        Self { sizes, norm: op.norm, y, vectors, zeros: vec![0.0; sizes.channel] }
    }

    /// Tasks of a sequence.
    fn pieces(&self) -> usize {
        self.sizes.token.div_ceil(TOKENS)
    }

    /// The sequence and the tokens of a task.
    fn tokens_of_task(&self, task: usize) -> (usize, std::ops::Range<usize>) {
        let first = task % self.pieces() * TOKENS;
        (task / self.pieces(), first..self.sizes.token.min(first + TOKENS))
    }

    fn vectors(&self, batch: usize) -> Vectors<'_> {
        let all = &self.vectors[batch * 3 * self.sizes.channel..];
        let (gate, all) = all.split_at(self.sizes.channel);
        let (factor, all) = all.split_at(self.sizes.channel);
        Vectors { gate, factor, summand: &all[..self.sizes.channel] }
    }

    /// A token's row, or zeros if there is none.
    #[inline(always)]
    fn row_or_zeros<'b>(&'b self, rows: Option<Rows<'b>>, batch: usize, token: usize) -> &'b [f32] {
        rows.map_or(&self.zeros, |rows| rows.row(batch, token))
    }

    /// `1 / √(mean square + eps)`, or 1 without a norm.
    fn rstd(&self, sum_of_squares: f32) -> f32 {
        let per_channel = 1.0 / self.sizes.channel as f32;
        match self.norm {
            Norm::None => 1.0,
            Norm::Rms { eps } | Norm::Layer { eps } => 1.0 / (sum_of_squares * per_channel + eps).sqrt(),
        }
    }
}

/// Takes the mean, which it returns, off a row for the layer norm, and nothing for the others.
#[inline(always)]
fn centre<S: Lanes>(s: S, norm: Norm, row: &mut [f32]) -> f32 {
    if !matches!(norm, Norm::Layer { .. }) {
        return 0.0;
    }
    let mut sum = s.zero();
    for at in (0..row.len()).step_by(S::COUNT) {
        sum = s.add(sum, s.load(&row[at..]));
    }
    let mean = s.sum(sum) / row.len() as f32;
    for at in (0..row.len()).step_by(S::COUNT) {
        s.store(s.sub(s.load(&row[at..]), s.splat(mean)), &mut row[at..]);
    }
    mean
}

/// [`super::forward`], checked.
pub(super) fn forward(op: &NormModulate<'_>, sizes: Sizes, x: &TensorView<'_>, outputs: &mut NormModulateOutputs<'_>) {
    lanes::run(forward::Forward {
        inputs: Inputs::new(op, sizes),
        x: Rows::new(x),
        r: outputs.r.as_mut().map(RowsMut::new),
        out: outputs.out.as_mut().map(RowsMut::new),
        statistics: outputs.statistics.as_mut().map(RowsMut::new),
    });
}

/// [`super::backward`], checked.
pub(super) fn backward(
    op: &NormModulate<'_>,
    sizes: Sizes,
    upstream: &Upstream<'_>,
    gradients: &mut NormModulateGradients<'_>,
) {
    lanes::run(backward::Backward {
        inputs: Inputs::new(op, sizes),
        weight: op.weight.map(|view| Rows::new(&view)),
        bias: op.bias.map(|view| Rows::new(&view)),
        scale: op.scale.map(|view| Rows::new(&view)),
        r: Rows::new(upstream.r),
        statistics: upstream.statistics.map(Rows::new),
        grad_out: upstream.grad_out.map(Rows::new),
        grad_r: upstream.grad_r.map(Rows::new),
        grad_x: gradients.x.as_mut().map(RowsMut::new),
        grad_y: gradients.y.as_mut().map(RowsMut::new),
        grad_gate: gradients.gate.as_mut().map(RowsMut::new),
        grad_weight: gradients.weight.as_mut().map(RowsMut::new),
        grad_bias: gradients.bias.as_mut().map(RowsMut::new),
        grad_scale: gradients.scale.as_mut().map(RowsMut::new),
        grad_shift: gradients.shift.as_mut().map(RowsMut::new),
    });
}
