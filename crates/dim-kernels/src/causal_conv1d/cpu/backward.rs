//! The backward pass: one walk over a segment's steps, and over as many behind it as a filter reaches.

use rayon::prelude::*;

use super::{Inputs, filtered, shift};
use crate::lanes::{self, Kernel, Lanes, gate_and_slope};
use crate::rows::{Rows, RowsMut};

/// The whole backward pass.
pub(super) struct Backward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) grad_out: Rows<'a>,
    pub(super) grad_x: RowsMut<'a>,
    pub(super) grad_weight: RowsMut<'a>,
    pub(super) grad_bias: Option<RowsMut<'a>>,
}

impl Kernel for Backward<'_> {
    fn run<S: Lanes>(self, s: S) {
        let sizes = self.inputs.sizes;
        let tasks = sizes.batch * self.inputs.segments();
        // The gradients of bias and filter, summed over each task's steps: `[task, 1 + width, channel]`, the bias first.
        let share = (1 + sizes.width) * sizes.channel;
        let mut partial = vec![0.0; tasks * share];
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
        let (first_tap, rest) = (sizes.channel, (1 + sizes.width) * sizes.channel);
        (0..sizes.channel).into_par_iter().with_min_len(64).for_each(|channel| {
            let sum = |row: usize| partial.iter().skip(row * first_tap + channel).step_by(rest).sum::<f32>();
            // SAFETY: every row is borrowed by one item of this loop, and by nothing else: the tasks are done.
            let weight = unsafe { self.grad_weight.row(0, channel) };
            for (tap, weight) in weight.iter_mut().enumerate() {
                *weight = sum(1 + tap);
            }
            if let Some(rows) = self.grad_bias {
                // SAFETY: as above, for single elements.
                unsafe { rows.columns(0, 0, channel..channel + 1) }.fill(sum(0));
            }
        });
    }
}

/// One segment of one sequence.
struct Task<'a> {
    pass: &'a Backward<'a>,
    task: usize,
    /// `[1 + width, channel]`
    partial: &'a mut [f32],
}

impl<S: Lanes> lanes::Task<S> for Task<'_> {
    #[inline(always)]
    fn run(self, s: S) {
        let pass = self.pass;
        let inputs = &pass.inputs;
        let width = inputs.sizes.width;
        let (batch, steps) = inputs.steps_of_task(self.task);
        let end = inputs.sizes.token.min(steps.end + width - 1);
        let reach = steps.start.saturating_sub(width - 1)..end;
        let mut memory = vec![s.zero(); 4 * width];
        for channels in inputs.channels() {
            let x = inputs.rows(inputs.x, batch, reach.clone(), &channels);
            let grad_out = inputs.rows(pass.grad_out, batch, steps.start..end, &channels);
            // SAFETY: the tasks' tokens are disjoint, and the borrows end with these channels.
            let mut grad_x = unsafe { inputs.rows_mut(pass.grad_x, batch, steps.clone(), &channels) };
            for first in (0..channels.len()).step_by(S::COUNT) {
                let mut tile = Tile {
                    inputs,
                    x: &x,
                    grad_out: &grad_out,
                    grad_x: &mut grad_x,
                    channel: channels.start,
                    first,
                    partial: self.partial,
                };
                // Arrays of a known length are kept in registers.
                if width == 3 {
                    tile.run(s, [&mut [s.zero(); 3], &mut [s.zero(); 3], &mut [s.zero(); 3], &mut [s.zero(); 3]]);
                } else {
                    let (filters, windows) = memory.split_at_mut(2 * width);
                    let ((filter, grad_filter), (x, grad_y)) =
                        (filters.split_at_mut(width), windows.split_at_mut(width));
                    tile.run(s, [filter, grad_filter, x, grad_y]);
                }
            }
        }
    }
}

/// A tile of channels.
struct Tile<'a, 'b> {
    inputs: &'a Inputs<'a>,
    /// The rows of the segment, and on both sides those that a filter reaches.
    x: &'a [&'a [f32]],
    /// The rows of the segment, and behind it those that a filter reaches.
    grad_out: &'a [&'a [f32]],
    /// The rows of the segment.
    grad_x: &'a mut [&'b mut [f32]],
    /// The rows' first channel.
    channel: usize,
    /// The tile's first channel within the rows.
    first: usize,
    /// `[1 + width, channel]`
    partial: &'a mut [f32],
}

impl Tile<'_, '_> {
    /// Walks down the steps; the vectors, `width` of each kind, are the filter and its gradient, the window of the input
    /// and that of the gradients by the filter's results.
    #[inline(always)]
    fn run<S: Lanes>(&mut self, s: S, [filter, grad_filter, x, grad_y]: [&mut [S::V]; 4]) {
        let (width, first) = (filter.len(), self.first);
        let bias = self.inputs.load_filter(s, self.channel + first, filter);
        let (before, rows) = self.x.split_at(self.x.len() - self.grad_out.len());
        let segment = self.grad_x.len();
        let mut grad_bias = s.zero();
        for window in [&mut *grad_filter, &mut *x, &mut *grad_y] {
            window.fill(s.zero());
        }
        for row in before {
            shift(x, s.load(&row[first..]));
        }
        for step in 0..segment + width - 1 {
            let mut newest = s.zero();
            if let (Some(row), Some(grad_out)) = (rows.get(step), self.grad_out.get(step)) {
                // For the next tile: rows lie too far apart for the processor to guess.
                s.prefetch(row, first + S::COUNT);
                s.prefetch(grad_out, first + S::COUNT);
                shift(x, s.load(&row[first..]));
                newest = s.load(&grad_out[first..]);
                if self.inputs.silu {
                    newest = s.mul(newest, gate_and_slope(s, filtered(s, bias, filter, x)).1);
                }
                if step < segment {
                    grad_bias = s.add(grad_bias, newest);
                    for (sum, &x) in grad_filter.iter_mut().zip(x.iter()) {
                        *sum = s.mul_add(newest, x, *sum);
                    }
                }
            }
            shift(grad_y, newest);
            if let Some(complete) = (step + 1).checked_sub(width) {
                // The last tap of a step reads that step, the first tap that of `width - 1` steps before.
                let mut sum = s.zero();
                for (&weight, &grad_y) in filter.iter().rev().zip(grad_y.iter()) {
                    sum = s.mul_add(weight, grad_y, sum);
                }
                let grad_x = &mut self.grad_x[complete];
                s.prefetch_to_write(grad_x, first + S::COUNT);
                s.store(sum, &mut grad_x[first..]);
            }
        }
        let channels = self.inputs.sizes.channel;
        let end = (self.channel + first + S::COUNT).min(channels);
        for (&sum, row) in
            std::iter::once(&grad_bias).chain(grad_filter.iter()).zip(self.partial.chunks_exact_mut(channels))
        {
            s.store(sum, &mut row[self.channel + first..end]);
        }
    }
}
