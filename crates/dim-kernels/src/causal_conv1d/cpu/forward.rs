//! The forward pass.

use rayon::prelude::*;

use super::{Inputs, Tap, filter};
use crate::lanes::{self, Kernel, Lanes, gate};
use crate::rows::RowsMut;

/// The whole forward pass.
pub(super) struct Forward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) out: RowsMut<'a>,
}

impl Kernel for Forward<'_> {
    fn run<S: Lanes>(self, s: S) {
        let tasks = self.inputs.sizes.batch * self.inputs.segments();
        (0..tasks).into_par_iter().for_each(|task| s.enter(Task { pass: &self, task }));
    }
}

/// One segment of one sequence.
struct Task<'a> {
    pass: &'a Forward<'a>,
    task: usize,
}

impl<S: Lanes> lanes::Task<S> for Task<'_> {
    #[inline(always)]
    fn run(self, s: S) {
        let inputs = &self.pass.inputs;
        let (batch, steps) = inputs.steps_of_task(self.task);
        let mut taps = Vec::with_capacity(inputs.sizes.width);
        for channels in inputs.channels() {
            for step in steps.clone() {
                inputs.list_taps(batch, step, &channels, &mut taps);
                let token = inputs.order.token(step);
                // SAFETY: the tasks' tokens are disjoint, and the borrow ends with this step.
                let out = unsafe { self.pass.out.columns(batch, token, channels.clone()) };
                let bias = &inputs.bias[channels.clone()];
                // A known number of taps unrolls the innermost loop.
                match <&[Tap<'_>; 3]>::try_from(&taps[..]) {
                    Ok(three) => row(s, inputs.silu, bias, three, out),
                    Err(_) => row(s, inputs.silu, bias, &taps, out),
                }
            }
        }
    }
}

/// A step of some channels.
#[inline(always)]
fn row<S: Lanes>(s: S, silu: bool, bias: &[f32], taps: &[Tap<'_>], out: &mut [f32]) {
    for (index, out) in out.chunks_mut(S::COUNT).enumerate() {
        let y = filter(s, bias, taps, index * S::COUNT);
        s.store(if silu { gate(s, y) } else { y }, out);
    }
}
