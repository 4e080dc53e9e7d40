//! The convolution on the host's cores.
//!
//! A task is a segment of one sequence. It takes some hundred channels at a time, so that the filters stay in the
//! first cache while rows are read in long pieces, and walks the segment's steps, a channel a lane.
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

/// Channels that are taken at once.
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

/// What a tap multiplies: some channels' weights, and their values at the step that the tap reads.
type Tap<'a> = (&'a [f32], &'a [f32]);

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

    /// A tap's weights.
    #[inline(always)]
    fn weight(&self, tap: usize, channels: &Range<usize>) -> &[f32] {
        &self.weight[tap * self.sizes.channel..][channels.clone()]
    }

    /// Lists the taps of a step that read no step before the first one, oldest first.
    #[inline(always)]
    fn list_taps<'b>(&'b self, batch: usize, step: usize, channels: &Range<usize>, taps: &mut Vec<Tap<'b>>) {
        let width = self.sizes.width;
        taps.clear();
        taps.extend(((width - 1).saturating_sub(step)..width).map(|tap| {
            let token = self.order.token(step + tap + 1 - width);
            (self.weight(tap, channels), self.x.columns(batch, token, channels.clone()))
        }));
    }
}

/// The filter's result before SiLU for the channels from `at` on.
#[inline(always)]
fn filter<S: Lanes>(s: S, bias: &[f32], taps: &[Tap<'_>], at: usize) -> S::V {
    let mut sum = s.load(&bias[at..]);
    for (weight, x) in taps {
        sum = s.mul_add(s.load(&weight[at..]), s.load(&x[at..]), sum);
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
