//! The convolution on the host's cores.
//!
//! A task is a segment of one sequence. It takes some hundred channels at a time, and of these a tile after the other, a
//! channel a lane: down the segment's steps, filter, window and sums stay in registers, and every number is read once.
//!
//! Tasks and the order of every sum depend on the sizes alone, hence not on the number of threads.

mod backward;
mod forward;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::shape::Sizes;
use super::{CausalConv1d, CausalConv1dGradients};
use crate::lanes::{self, Lanes};
use crate::rows::{Order, Rows, RowsMut};
use crate::view::{TensorView, TensorViewMut};

/// Steps of a task.
const SEGMENT: usize = 64;

/// Channels that are taken at once: their rows of a segment stay in the second cache.
const CHANNELS: usize = 256;

/// Where the inputs lie.
struct Inputs<'a> {
    sizes: Sizes,
    order: Order<'a>,
    x: Rows<'a>,
    /// The filters, transposed: `[width, channel]`.
    weight: Vec<f32>,
    /// `[channel]`, zeros if there is none.
    bias: Vec<f32>,
    silu: bool,
}

impl<'a> Inputs<'a> {
    fn new(conv: &CausalConv1d<'a>, sizes: Sizes) -> Self {
        let weight = Rows::new(&conv.weight);
        let taps = (0..sizes.width).flat_map(|tap| (0..sizes.channel).map(move |channel| weight.row(0, channel)[tap]));
        Self {
            sizes,
            order: Order::new(conv.token_map),
            x: Rows::new(&conv.x),
            weight: taps.collect(),
            bias: conv.bias.as_ref().map_or(vec![0.0; sizes.channel], |bias| Rows::new(bias).row(0, 0).to_vec()),
            silu: conv.silu,
        }
    }

    fn segments(&self) -> usize {
        self.sizes.token.div_ceil(SEGMENT)
    }

    /// The sequence and the steps of a task's index.
    fn steps_of_task(&self, task: usize) -> (usize, Range<usize>) {
        let first = task % self.segments() * SEGMENT;
        (task / self.segments(), first..self.sizes.token.min(first + SEGMENT))
    }

    /// The channels that are taken at once.
    fn channels(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = self.sizes.channel;
        (0..end).step_by(CHANNELS).map(move |first| first..end.min(first + CHANNELS))
    }

    /// Some channels of an input at every one of some steps.
    fn rows<'b>(&self, of: Rows<'b>, batch: usize, steps: Range<usize>, channels: &Range<usize>) -> Vec<&'b [f32]> {
        steps.map(|step| of.columns(batch, self.order.token(step), channels.clone())).collect()
    }

    /// Some channels of an output at every one of some steps.
    ///
    /// # Safety
    /// As long as the results live, nobody may ask for any of the same elements.
    unsafe fn rows_mut<'b>(
        &self,
        of: RowsMut<'b>,
        batch: usize,
        steps: Range<usize>,
        channels: &Range<usize>,
    ) -> Vec<&'b mut [f32]> {
        // SAFETY: the steps have tokens of their own; for the rest the caller answers.
        steps.map(|step| unsafe { of.columns(batch, self.order.token(step), channels.clone()) }).collect()
    }

    /// The filter and the bias of the channels from `first` on.
    #[inline(always)]
    fn load_filter<S: Lanes>(&self, s: S, first: usize, filter: &mut [S::V]) -> S::V {
        for (weight, row) in filter.iter_mut().zip(self.weight.chunks_exact(self.sizes.channel)) {
            *weight = s.load(&row[first..]);
        }
        s.load(&self.bias[first..])
    }
}

/// Drops the oldest vector of a window, the first one, and appends the newest.
#[inline(always)]
fn shift<V: Copy>(window: &mut [V], newest: V) {
    for at in 1..window.len() {
        window[at - 1] = window[at];
    }
    if let Some(last) = window.last_mut() {
        *last = newest;
    }
}

/// The filter's result before SiLU.
#[inline(always)]
fn filtered<S: Lanes>(s: S, bias: S::V, filter: &[S::V], window: &[S::V]) -> S::V {
    let mut sum = bias;
    for (&weight, &x) in filter.iter().zip(window) {
        sum = s.mul_add(weight, x, sum);
    }
    sum
}

/// [`super::forward`], checked.
pub(super) fn forward(conv: &CausalConv1d<'_>, sizes: Sizes, out: &mut TensorViewMut<'_>) {
    lanes::run(forward::Forward { inputs: Inputs::new(conv, sizes), out: RowsMut::new(out) });
}

/// [`super::backward`], checked.
pub(super) fn backward(
    conv: &CausalConv1d<'_>,
    sizes: Sizes,
    grad_out: &TensorView<'_>,
    gradients: &mut CausalConv1dGradients<'_>,
) {
    lanes::run(backward::Backward {
        inputs: Inputs::new(conv, sizes),
        grad_out: Rows::new(grad_out),
        grad_x: RowsMut::new(&mut gradients.x),
        grad_weight: RowsMut::new(&mut gradients.weight),
        grad_bias: gradients.bias.as_mut().map(RowsMut::new),
    });
}
