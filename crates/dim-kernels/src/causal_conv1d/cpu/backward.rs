//! The backward pass: one walk over a segment's steps, and over as many behind it as a filter reaches.

use rayon::prelude::*;

use super::{CHANNELS, Inputs, Tap, filter};
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
        // The gradients of filter and bias, summed over each task's steps: `[task, 1 + width, channel]`, the bias first.
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
        // The gradient by the filter's result at the last `width` steps; step `l` stands in row `l % width`.
        let mut ring = vec![0.0; width * CHANNELS];
        let mut taps = Vec::with_capacity(width);
        for channels in inputs.channels() {
            let bias = &inputs.bias[channels.clone()];
            for step in steps.start..steps.end + width - 1 {
                let grad_y = &mut ring[step % width * CHANNELS..][..channels.len()];
                if step < inputs.sizes.token {
                    inputs.list_taps(batch, step, &channels, &mut taps);
                    let grad_out = pass.grad_out.columns(batch, inputs.order.token(step), channels.clone());
                    match <&[Tap<'_>; 3]>::try_from(&taps[..]) {
                        Ok(three) => gradient_of_filter(s, inputs.silu, bias, three, grad_out, grad_y),
                        Err(_) => gradient_of_filter(s, inputs.silu, bias, &taps, grad_out, grad_y),
                    }
                    if step < steps.end {
                        accumulate(s, grad_y, &taps, self.partial, inputs.sizes.channel, channels.start);
                    }
                } else {
                    grad_y.fill(0.0);
                }
                if let Some(complete) = (step + 1).checked_sub(width).filter(|&step| step >= steps.start) {
                    let row = |step: usize| &ring[step % width * CHANNELS..][..channels.len()];
                    // The last tap of a step reads that step, the first tap that of `width - 1` steps later.
                    let tap = |tap| (inputs.weight(tap, &channels), row(step - tap));
                    let token = inputs.order.token(complete);
                    // SAFETY: the tasks' tokens are disjoint, and the borrow ends with this step.
                    let grad_x = unsafe { pass.grad_x.columns(batch, token, channels.clone()) };
                    match width {
                        3 => gradient_of_input(s, &[tap(0), tap(1), tap(2)], grad_x),
                        _ => gradient_of_input(s, &(0..width).map(tap).collect::<Vec<_>>(), grad_x),
                    }
                }
            }
        }
    }
}

/// A step's gradient by the filter's result, from that by the output.
#[inline(always)]
fn gradient_of_filter<S: Lanes>(
    s: S,
    silu: bool,
    bias: &[f32],
    taps: &[Tap<'_>],
    grad_out: &[f32],
    grad_y: &mut [f32],
) {
    for (index, grad_y) in grad_y.chunks_mut(S::COUNT).enumerate() {
        let at = index * S::COUNT;
        let grad_out = s.load(&grad_out[at..]);
        let grad = if silu { s.mul(grad_out, gate_and_slope(s, filter(s, bias, taps, at)).1) } else { grad_out };
        s.store(grad, grad_y);
    }
}

/// A step's gradient by the input, from those by the results that it went into.
#[inline(always)]
fn gradient_of_input<S: Lanes>(s: S, taps: &[Tap<'_>], grad_x: &mut [f32]) {
    for (index, grad_x) in grad_x.chunks_mut(S::COUNT).enumerate() {
        let at = index * S::COUNT;
        let mut sum = s.zero();
        for (weight, grad_y) in taps {
            sum = s.mul_add(s.load(&weight[at..]), s.load(&grad_y[at..]), sum);
        }
        s.store(sum, grad_x);
    }
}

/// Adds a step's share to the gradients of bias and filter, `[1 + width, channel]`.
#[inline(always)]
fn accumulate<S: Lanes>(s: S, grad_y: &[f32], taps: &[Tap<'_>], sums: &mut [f32], channel: usize, first: usize) {
    let width = sums.len() / channel - 1;
    for (index, sum) in sums[first..][..grad_y.len()].chunks_mut(S::COUNT).enumerate() {
        s.store(s.add(s.load(sum), s.load(&grad_y[index * S::COUNT..])), sum);
    }
    // The taps that would read before the first step are not listed; those that are, are the last ones.
    for (row, (_, x)) in (1 + width - taps.len()..).zip(taps) {
        let sums = &mut sums[row * channel + first..][..grad_y.len()];
        for (index, sum) in sums.chunks_mut(S::COUNT).enumerate() {
            let at = index * S::COUNT;
            s.store(s.mul_add(s.load(&grad_y[at..]), s.load(&x[at..]), s.load(sum)), sum);
        }
    }
}
