//! The forward pass.

use rayon::prelude::*;

use super::{Inputs, filtered, shift};
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
        let width = inputs.sizes.width;
        let (batch, steps) = inputs.steps_of_task(self.task);
        let reach = steps.start.saturating_sub(width - 1)..steps.end;
        let mut memory = [vec![s.zero(); width], vec![s.zero(); width]];
        for channels in inputs.channels() {
            let x = inputs.rows(inputs.x, batch, reach.clone(), &channels);
            // SAFETY: the tasks' tokens are disjoint, and the borrows end with these channels.
            let mut out = unsafe { inputs.rows_mut(self.pass.out, batch, steps.clone(), &channels) };
            for first in (0..channels.len()).step_by(S::COUNT) {
                let mut tile = Tile { inputs, x: &x, out: &mut out, channel: channels.start, first };
                // Arrays of a known length are kept in registers.
                if width == 3 {
                    tile.run(s, &mut [s.zero(); 3], &mut [s.zero(); 3]);
                } else {
                    let [filter, window] = &mut memory;
                    tile.run(s, filter, window);
                }
            }
        }
    }
}

/// A tile of channels.
struct Tile<'a, 'b> {
    inputs: &'a Inputs<'a>,
    /// The rows of the segment, and in front of them those that the filter reaches.
    x: &'a [&'a [f32]],
    /// The rows of the segment.
    out: &'a mut [&'b mut [f32]],
    /// The rows' first channel.
    channel: usize,
    /// The tile's first channel within the rows.
    first: usize,
}

impl Tile<'_, '_> {
    #[inline(always)]
    fn run<S: Lanes>(&mut self, s: S, filter: &mut [S::V], window: &mut [S::V]) {
        let first = self.first;
        let bias = self.inputs.load_filter(s, self.channel + first, filter);
        let (before, x) = self.x.split_at(self.x.len() - self.out.len());
        window.fill(s.zero());
        for row in before {
            shift(window, s.load(&row[first..]));
        }
        for (row, out) in x.iter().zip(self.out.iter_mut()) {
            // For the next tile: rows lie too far apart for the processor to guess.
            s.prefetch(row, first + S::COUNT);
            s.prefetch_to_write(out, first + S::COUNT);
            shift(window, s.load(&row[first..]));
            let y = filtered(s, bias, filter, window);
            s.store(if self.inputs.silu { gate(s, y) } else { y }, &mut out[first..]);
        }
    }
}
