//! A block's walk over the tokens and back.

use std::ops::Range;

use super::Backward;
use super::scratch::Scratch;
use crate::lanes::{self, Lanes};
use crate::selective_scan::cpu::block::{
    self, Block, CHUNK, decay_step, load_all_states, load_matrix, prefetch, prefetch_to_write, step_size,
    store_all_states,
};
use crate::selective_scan::cpu::recurrence::{Advance, Recompute, Reverse, for_all_states};
use crate::selective_scan::cpu::reduce::PartialOfTask;

/// One block of channels.
pub(super) struct Task<'a, V> {
    pub(super) pass: &'a Backward<'a>,
    pub(super) block: Block,
    pub(super) scratch: &'a mut Scratch<V>,
    pub(super) partial: PartialOfTask<'a>,
}

impl<S: Lanes> lanes::Task<S> for Task<'_, S::V> {
    #[inline(always)]
    fn run(mut self, s: S) {
        let token = self.pass.inputs.sizes.token;
        self.start(s);
        for chunk in 1..token.div_ceil(CHUNK) {
            self.advance(s, chunk - 1);
        }
        for chunk in (0..token.div_ceil(CHUNK)).rev() {
            self.walk_back(s, chunk);
        }
        self.finish(s);
    }
}

impl<V: Copy> Task<'_, V> {
    fn steps(&self, chunk: usize) -> Range<usize> {
        chunk * CHUNK..self.pass.inputs.sizes.token.min((chunk + 1) * CHUNK)
    }

    /// Loads what is constant, and the states and gradients at both ends.
    #[inline(always)]
    fn start<S: Lanes<V = V>>(&mut self, s: S) {
        let inputs = &self.pass.inputs;
        let scratch = &mut *self.scratch;
        scratch.constants.load(s, inputs, &self.block);
        scratch.grad_a.fill(s.zero());
        scratch.grad_d.fill(s.zero());
        scratch.grad_delta_bias.fill(s.zero());
        load_all_states(s, inputs.initial_state, inputs.sizes, &self.block, &mut scratch.states);
        load_all_states(s, self.pass.grad_last_state, inputs.sizes, &self.block, &mut scratch.grad_state);
    }

    /// Computes the states before the next chunk from those before this one.
    #[inline(always)]
    fn advance<S: Lanes<V = V>>(&mut self, s: S, chunk: usize) {
        let steps = self.steps(chunk);
        let inputs = &self.pass.inputs;
        let states = inputs.sizes.state;
        load_matrix(inputs, inputs.b, self.block.batch, steps.clone(), &mut self.scratch.b);
        let u = inputs.chunk(inputs.u, &self.block, &steps);
        let delta = inputs.chunk(inputs.delta, &self.block, &steps);
        let next = self.steps(chunk + 1);
        let next = [inputs.u, inputs.delta].map(|rows| inputs.chunk(rows, &self.block, &next));
        let scratch = &mut *self.scratch;
        let of_chunk = block::tiles(s, inputs.sizes) * states;
        let (before, after) = scratch.states[chunk * of_chunk..][..2 * of_chunk].split_at_mut(of_chunk);
        for tile in 0..self.block.tiles(s).count() {
            let first = tile * S::COUNT;
            let delta_bias = scratch.constants.delta_bias[tile];
            prefetch(s, &next, first);
            let loaded = &mut scratch.steps[..steps.len()];
            for ((step, u), delta) in loaded.iter_mut().zip(&u).zip(&delta) {
                let delta = step_size(s, inputs, s.load(&delta[first..]), delta_bias);
                step.decay_step = decay_step(s, delta);
                step.delta_u = s.mul(delta, s.load(&u[first..]));
            }
            let tile = tile * states..(tile + 1) * states;
            after[tile.clone()].copy_from_slice(&before[tile.clone()]);
            let advance = Advance {
                rate: &scratch.constants.rate[tile.clone()],
                state: &mut after[tile],
                b: &scratch.b,
                steps: loaded,
            };
            for_all_states(s, states, advance);
        }
    }

    /// Computes a chunk's gradients.
    #[inline(always)]
    fn walk_back<S: Lanes<V = V>>(&mut self, s: S, chunk: usize) {
        let steps = self.steps(chunk);
        let inputs = &self.pass.inputs;
        let states = inputs.sizes.state;
        load_matrix(inputs, inputs.b, self.block.batch, steps.clone(), &mut self.scratch.b);
        load_matrix(inputs, inputs.c, self.block.batch, steps.clone(), &mut self.scratch.c);
        self.scratch.grad_b.fill(0.0);
        self.scratch.grad_c.fill(0.0);
        let rows = self.rows(&steps);
        // SAFETY: the tasks' channels are disjoint, and the borrows end with this chunk.
        let mut results = unsafe { self.results(&steps) };
        let next_steps = if chunk == 0 { 0..0 } else { self.steps(chunk - 1) };
        // The walk before this one has left u and delta in the caches.
        let next = [inputs.z.unwrap_or(inputs.u), self.pass.grad_out];
        let next = next.map(|rows| inputs.chunk(rows, &self.block, &next_steps));
        for index in 0..self.block.tiles(s).count() {
            for rows in [Some(&results.u), Some(&results.delta), results.z.as_ref()].into_iter().flatten() {
                prefetch_to_write(s, rows, index * S::COUNT);
            }
            self.load_steps(s, &rows, index);
            prefetch(s, &next, index * S::COUNT);
            let scratch = &mut *self.scratch;
            let tile = index * states..(index + 1) * states;
            let of_chunk = block::tiles(s, inputs.sizes) * states;
            let recompute = Recompute {
                rate: &scratch.constants.rate[tile.clone()],
                state: &scratch.states[chunk * of_chunk..][tile.clone()],
                b: &scratch.b,
                c: &scratch.c,
                steps: &mut scratch.steps[..steps.len()],
                kept: &mut scratch.kept,
            };
            for_all_states(s, states, recompute);
            let reverse = Reverse {
                rate: &scratch.constants.rate[tile.clone()],
                grad_state: &mut scratch.grad_state[tile.clone()],
                grad_a: &mut scratch.grad_a[tile],
                b: &scratch.b,
                c: &scratch.c,
                steps: &mut scratch.steps[..steps.len()],
                kept: &scratch.kept,
                grad_b: &mut scratch.grad_b,
                grad_c: &mut scratch.grad_c,
            };
            for_all_states(s, states, reverse);
            self.store_steps(s, &mut results, index);
        }
        for (l, step) in steps.enumerate() {
            let share = &mut self.partial.matrices[inputs.order.token(step) * 2 * states..][..2 * states];
            let (b, c) = share.split_at_mut(states);
            b.copy_from_slice(&self.scratch.grad_b[l * states..][..states]);
            c.copy_from_slice(&self.scratch.grad_c[l * states..][..states]);
        }
    }

    /// Stores what was summed over the steps.
    #[inline(always)]
    fn finish<S: Lanes<V = V>>(&mut self, s: S) {
        let states = self.pass.inputs.sizes.state;
        let scratch = &*self.scratch;
        if let Some(rows) = self.pass.gradients.initial_state {
            // SAFETY: the tasks' channels are disjoint.
            unsafe { store_all_states(s, &scratch.grad_state, rows, self.pass.inputs.sizes, &self.block) };
        }
        for index in 0..self.block.tiles(s).count() {
            let tile = index * states..(index + 1) * states;
            let vectors = scratch.grad_a[tile].iter().chain([&scratch.grad_d[index], &scratch.grad_delta_bias[index]]);
            let shares = &mut self.partial.vectors[index * S::COUNT * (states + 2)..];
            for (at, &vector) in vectors.enumerate() {
                let mut lanes = [0.0; 16];
                s.store(vector, &mut lanes);
                for (lane, share) in lanes.into_iter().zip(shares.chunks_exact_mut(states + 2)).take(S::COUNT) {
                    share[at] = lane;
                }
            }
        }
    }
}
