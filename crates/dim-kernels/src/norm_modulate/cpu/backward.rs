//! The backward pass: every task sums over its tokens what has one number a channel, and the tasks' sums are added up.

use rayon::prelude::*;

use super::Inputs;
use crate::lanes::{self, Kernel, Lanes};
use crate::norm_modulate::Norm;
use crate::rows::{Rows, RowsMut};

/// The whole backward pass.
pub(super) struct Backward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) weight: Option<Rows<'a>>,
    pub(super) bias: Option<Rows<'a>>,
    pub(super) scale: Option<Rows<'a>>,
    pub(super) r: Rows<'a>,
    pub(super) statistics: Option<Rows<'a>>,
    pub(super) grad_out: Option<Rows<'a>>,
    pub(super) grad_r: Option<Rows<'a>>,
    pub(super) grad_x: Option<RowsMut<'a>>,
    pub(super) grad_y: Option<RowsMut<'a>>,
    pub(super) grad_gate: Option<RowsMut<'a>>,
    pub(super) grad_weight: Option<RowsMut<'a>>,
    pub(super) grad_bias: Option<RowsMut<'a>>,
    pub(super) grad_scale: Option<RowsMut<'a>>,
    pub(super) grad_shift: Option<RowsMut<'a>>,
}

impl Kernel for Backward<'_> {
    fn run<S: Lanes>(self, s: S) {
        let sizes = self.inputs.sizes;
        // `[batch, task, 3, channel]`: sums of the gradient by the output g, of g times the normed stream, and of the gradient
        // by the stream times y.
        let share = 3 * sizes.channel;
        let mut partial = vec![0.0; sizes.batch * self.inputs.pieces() * share];
        partial
            .par_chunks_mut(share.max(1))
            .enumerate()
            .for_each(|(task, partial)| s.enter(Task { pass: &self, task, partial }));
        self.reduce(&partial);
    }
}

impl Backward<'_> {
    /// Sums the tasks' shares in the order of the tasks.
    fn reduce(&self, partial: &[f32]) {
        let sizes = self.inputs.sizes;
        let channels = sizes.channel;
        let of_sequence = self.inputs.pieces() * 3 * channels;
        (0..channels).into_par_iter().with_min_len(64).for_each(|channel| {
            let (mut weight, mut bias) = (0.0, 0.0);
            for batch in 0..sizes.batch {
                let mut sums = [0.0_f32; 3];
                for share in partial[batch * of_sequence..][..of_sequence].chunks_exact(3 * channels) {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum += share[i * channels + channel];
                    }
                }
                let [g, gn, gate] = sums;
                let at = |rows: Option<Rows<'_>>, row, otherwise| {
                    rows.map_or(otherwise, |rows: Rows<'_>| rows.row(0, row)[channel])
                };
                let put = |rows: Option<RowsMut<'_>>, value| {
                    if let Some(rows) = rows {
                        // SAFETY: every element is borrowed by one item of this loop, and by nothing else: the tasks are done.
                        unsafe { rows.columns(0, batch, channel..channel + 1) }.fill(value);
                    }
                };
                let factor = 1.0 + at(self.scale, batch, 0.0);
                weight += factor * gn;
                bias += factor * g;
                put(self.grad_shift, g);
                put(self.grad_scale, at(self.weight, 0, 1.0) * gn + at(self.bias, 0, 0.0) * g);
                put(self.grad_gate, gate);
            }
            for (rows, value) in [(self.grad_weight, weight), (self.grad_bias, bias)] {
                if let Some(rows) = rows {
                    // SAFETY: as above.
                    unsafe { rows.columns(0, 0, channel..channel + 1) }.fill(value);
                }
            }
        });
    }
}

/// Some tokens of one sequence.
struct Task<'a> {
    pass: &'a Backward<'a>,
    task: usize,
    /// `[3, channel]`
    partial: &'a mut [f32],
}

impl<S: Lanes> lanes::Task<S> for Task<'_> {
    #[inline(always)]
    fn run(self, s: S) {
        let pass = self.pass;
        let inputs = &pass.inputs;
        let channels = inputs.sizes.channel;
        let (batch, tokens) = inputs.tokens_of_task(self.task);
        let vectors = inputs.vectors(batch);
        let (sum_g, rest) = self.partial.split_at_mut(channels);
        let (sum_gn, sum_gate) = rest.split_at_mut(channels);
        let (mut n, mut to_x, mut to_y) = (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
        for token in tokens {
            let g = inputs.row_or_zeros(pass.grad_out, batch, token);
            let later = inputs.row_or_zeros(pass.grad_r, batch, token);
            let y = inputs.row_or_zeros(inputs.y, batch, token);
            let r = pass.r.row(batch, token);
            let (mean, rstd) = match pass.statistics.map(|rows| rows.row(batch, token)) {
                Some(&[mean, rstd]) => (mean, rstd),
                _ => (0.0, 1.0),
            };

            // With h the gradient by the normed stream: of h times that, of h.
            let mut sums = [s.zero(); 2];
            for at in (0..channels).step_by(S::COUNT) {
                let normed = s.mul(s.sub(s.load(&r[at..]), s.splat(mean)), s.splat(rstd));
                let h = s.mul(s.load(&g[at..]), s.load(&vectors.factor[at..]));
                s.store(normed, &mut n[at..]);
                sums[0] = s.mul_add(h, normed, sums[0]);
                sums[1] = s.add(sums[1], h);
            }
            let per_channel = 1.0 / channels as f32;
            let [mean_hn, mean_h] = sums.map(|sum| s.sum(sum) * per_channel);
            let (mean_h, mean_hn) = match inputs.norm {
                Norm::None => (0.0, 0.0),
                Norm::Rms { .. } => (0.0, mean_hn),
                Norm::Layer { .. } => (mean_h, mean_hn),
            };
            let [rstd, mean_h, mean_hn] = [rstd, mean_h, mean_hn].map(|value| s.splat(value));

            // SAFETY: the tasks' tokens are disjoint, and the borrows end with this token.
            let grad_x = pass.grad_x.map_or(&mut to_x[..], |rows| unsafe { rows.row(batch, token) });
            // SAFETY: as above.
            let grad_y = pass.grad_y.map_or(&mut to_y[..], |rows| unsafe { rows.row(batch, token) });
            for at in (0..channels).step_by(S::COUNT) {
                let g = s.load(&g[at..]);
                let n = s.load(&n[at..]);
                let h = s.mul(g, s.load(&vectors.factor[at..]));
                let of_norm = s.neg_mul_add(n, mean_hn, s.sub(h, mean_h));
                let grad_r = s.mul_add(rstd, of_norm, s.load(&later[at..]));
                s.store(grad_r, &mut grad_x[at..]);
                s.store(s.mul(grad_r, s.load(&vectors.gate[at..])), &mut grad_y[at..]);
                s.store(s.add(s.load(&sum_g[at..]), g), &mut sum_g[at..]);
                s.store(s.mul_add(g, n, s.load(&sum_gn[at..])), &mut sum_gn[at..]);
                s.store(s.mul_add(grad_r, s.load(&y[at..]), s.load(&sum_gate[at..])), &mut sum_gate[at..]);
            }
        }
    }
}
