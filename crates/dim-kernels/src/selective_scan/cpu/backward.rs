//! The backward pass: a walk over the tokens that keeps the states before every chunk, and one back.

use std::ops::Range;

use rayon::prelude::*;

use super::Inputs;
use super::block::{
    self, Block, CHUNK, ChunkRows, ChunkRowsMut, Constants, decay_step, load_matrix, load_states, prefetch,
    prefetch_to_write, store_states,
};
use super::recurrence::{Advance, BackwardStep, Kept, Recompute, Reverse, for_all_states};
use super::reduce::{Partial, PartialOfTask};
use crate::lanes::{self, Kernel, Lanes, gate_and_slope, softplus, softplus_and_slope};
use crate::pool::Pool;
use crate::rows::{Rows, RowsMut};
use crate::selective_scan::shape::Sizes;

/// Where the gradients go.
pub(super) struct Gradients<'a> {
    pub(super) u: RowsMut<'a>,
    pub(super) delta: RowsMut<'a>,
    pub(super) a: RowsMut<'a>,
    pub(super) b: RowsMut<'a>,
    pub(super) c: RowsMut<'a>,
    pub(super) d: Option<RowsMut<'a>>,
    pub(super) z: Option<RowsMut<'a>>,
    pub(super) delta_bias: Option<RowsMut<'a>>,
    pub(super) initial_state: Option<RowsMut<'a>>,
}

/// The whole backward pass.
pub(super) struct Backward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) grad_out: Rows<'a>,
    pub(super) grad_last_state: Option<Rows<'a>>,
    pub(super) gradients: Gradients<'a>,
}

impl Kernel for Backward<'_> {
    fn run<S: Lanes>(self, s: S) {
        let sizes = self.inputs.sizes;
        let pool = Pool::new(|| Scratch::new(s, sizes));
        let mut partial = Partial::new(sizes);
        partial.tasks().enumerate().for_each(|(task, partial)| {
            let block = Block::of_task(task, sizes);
            pool.with(|scratch| s.enter(Task { pass: &self, block, scratch, partial }));
        });
        partial.reduce(&self.gradients);
    }
}

/// A task's memory.
struct Scratch<V> {
    constants: Constants<V>,
    /// The states before every chunk, `[chunk, tile, state]`.
    states: Vec<V>,
    /// The gradient by the state, `[tile, state]`.
    grad_state: Vec<V>,
    /// `[tile, state]`
    grad_a: Vec<V>,
    /// `[tile]`
    grad_d: Vec<V>,
    /// `[tile]`
    grad_delta_bias: Vec<V>,
    /// B and C of a chunk, `[step, state]`.
    b: Vec<f32>,
    c: Vec<f32>,
    /// Their gradients, summed over the block's channels.
    grad_b: Vec<f32>,
    grad_c: Vec<f32>,
    steps: [BackwardStep<V>; CHUNK],
    /// `[step, state]`, with one step more for the states after the chunk.
    kept: Vec<Kept<V>>,
}

impl<V: Copy> Scratch<V> {
    fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
        let Sizes { token, state, .. } = sizes;
        let tiles = block::tiles(s, sizes);
        let zero = s.zero();
        let step = BackwardStep {
            u: zero,
            delta: zero,
            decay_step: zero,
            delta_u: zero,
            delta_slope: zero,
            grad_y: zero,
            grad_gate: zero,
            y: zero,
            grad_delta_u: zero,
            grad_decay: zero,
        };
        Self {
            constants: Constants::new(s, sizes),
            states: vec![zero; token.div_ceil(CHUNK).max(1) * tiles * state],
            grad_state: vec![zero; tiles * state],
            grad_a: vec![zero; tiles * state],
            grad_d: vec![zero; tiles],
            grad_delta_bias: vec![zero; tiles],
            b: vec![0.0; CHUNK * state],
            c: vec![0.0; CHUNK * state],
            grad_b: vec![0.0; CHUNK * state],
            grad_c: vec![0.0; CHUNK * state],
            steps: [step; CHUNK],
            kept: vec![Kept { before: zero, decay: zero }; (CHUNK + 1) * state],
        }
    }
}

/// The rows that a chunk reads.
struct InputRows<'a> {
    len: usize,
    u: ChunkRows<'a>,
    delta: ChunkRows<'a>,
    z: Option<ChunkRows<'a>>,
    grad_out: ChunkRows<'a>,
}

/// The rows that a chunk overwrites.
struct ResultRows<'a> {
    len: usize,
    u: ChunkRowsMut<'a>,
    delta: ChunkRowsMut<'a>,
    z: Option<ChunkRowsMut<'a>>,
}

/// One block of channels.
struct Task<'a, V> {
    pass: &'a Backward<'a>,
    block: Block,
    scratch: &'a mut Scratch<V>,
    partial: PartialOfTask<'a>,
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

impl<'a, V: Copy> Task<'a, V> {
    fn steps(&self, chunk: usize) -> Range<usize> {
        chunk * CHUNK..self.pass.inputs.sizes.token.min((chunk + 1) * CHUNK)
    }

    /// Loads what is constant, and the states and gradients at both ends.
    #[inline(always)]
    fn start<S: Lanes<V = V>>(&mut self, s: S) {
        let inputs = &self.pass.inputs;
        let states = inputs.sizes.state;
        let batch = self.block.batch;
        let scratch = &mut *self.scratch;
        scratch.constants.load(s, inputs, &self.block);
        scratch.grad_a.fill(s.zero());
        scratch.grad_d.fill(s.zero());
        scratch.grad_delta_bias.fill(s.zero());
        for (tile, channels) in self.block.tiles(s).enumerate() {
            let tile = tile * states..(tile + 1) * states;
            let ends = [
                (inputs.initial_state, &mut scratch.states[tile.clone()]),
                (self.pass.grad_last_state, &mut scratch.grad_state[tile]),
            ];
            for (rows, into) in ends {
                match rows {
                    Some(rows) => load_states(s, rows, batch, &channels, into),
                    None => into.fill(s.zero()),
                }
            }
        }
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
                let raw = s.add(s.load(&delta[first..]), delta_bias);
                let delta = if inputs.delta_softplus { softplus(s, raw) } else { raw };
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
        let next = if chunk == 0 { 0..0 } else { self.steps(chunk - 1) };
        let next = [inputs.u, inputs.delta, inputs.z.unwrap_or(inputs.u), self.pass.grad_out]
            .map(|rows| inputs.chunk(rows, &self.block, &next));
        for index in 0..self.block.tiles(s).count() {
            prefetch(s, &next, index * S::COUNT);
            for rows in [Some(&results.u), Some(&results.delta), results.z.as_ref()].into_iter().flatten() {
                prefetch_to_write(s, rows, index * S::COUNT);
            }
            self.load_steps(s, &rows, index);
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

    /// The rows that a chunk reads.
    #[inline(always)]
    fn rows(&self, steps: &Range<usize>) -> InputRows<'a> {
        let inputs = &self.pass.inputs;
        InputRows {
            len: steps.len(),
            u: inputs.chunk(inputs.u, &self.block, steps),
            delta: inputs.chunk(inputs.delta, &self.block, steps),
            z: inputs.z.map(|z| inputs.chunk(z, &self.block, steps)),
            grad_out: inputs.chunk(self.pass.grad_out, &self.block, steps),
        }
    }

    /// The rows that a chunk overwrites.
    ///
    /// # Safety
    /// As long as the result lives, nobody may ask for any of the same elements.
    #[inline(always)]
    unsafe fn results(&self, steps: &Range<usize>) -> ResultRows<'a> {
        let gradients = &self.pass.gradients;
        // SAFETY: the caller answers for it.
        let rows = |rows: RowsMut<'a>| unsafe { self.pass.inputs.chunk_mut(rows, &self.block, steps) };
        ResultRows { len: steps.len(), u: rows(gradients.u), delta: rows(gradients.delta), z: gradients.z.map(rows) }
    }

    /// Loads a tile's steps and applies what has no recurrence.
    #[inline(always)]
    fn load_steps<S: Lanes<V = V>>(&mut self, s: S, rows: &InputRows<'_>, tile: usize) {
        let delta_softplus = self.pass.inputs.delta_softplus;
        let first = tile * S::COUNT;
        let (d, delta_bias) = (self.scratch.constants.d[tile], self.scratch.constants.delta_bias[tile]);
        for (l, step) in self.scratch.steps[..rows.len].iter_mut().enumerate() {
            let load = |rows: &ChunkRows<'_>| s.load(&rows[l][first..]);
            let u = load(&rows.u);
            let raw = s.add(load(&rows.delta), delta_bias);
            let (delta, delta_slope) = if delta_softplus { softplus_and_slope(s, raw) } else { (raw, s.splat(1.0)) };
            let grad_out = load(&rows.grad_out);
            let (grad_y, grad_gate) = match &rows.z {
                Some(z) => {
                    let (gate, slope) = gate_and_slope(s, load(z));
                    (s.mul(grad_out, gate), s.mul(grad_out, slope))
                }
                None => (grad_out, s.zero()),
            };
            *step = BackwardStep {
                u,
                delta,
                decay_step: decay_step(s, delta),
                delta_u: s.mul(delta, u),
                delta_slope,
                grad_y,
                grad_gate,
                y: s.mul(d, u),
                grad_delta_u: s.zero(),
                grad_decay: s.zero(),
            };
        }
    }

    /// Stores the gradients of a tile's steps.
    #[inline(always)]
    fn store_steps<S: Lanes<V = V>>(&mut self, s: S, results: &mut ResultRows<'_>, tile: usize) {
        let first = tile * S::COUNT;
        let scratch = &mut *self.scratch;
        let d = scratch.constants.d[tile];
        let (mut grad_d, mut grad_delta_bias) = (scratch.grad_d[tile], scratch.grad_delta_bias[tile]);
        for (l, step) in scratch.steps[..results.len].iter().enumerate() {
            let grad_u = s.mul_add(d, step.grad_y, s.mul(step.delta, step.grad_delta_u));
            let through_decay = s.mul(step.grad_decay, s.splat(std::f32::consts::LN_2));
            let grad_delta = s.mul(s.mul_add(step.u, step.grad_delta_u, through_decay), step.delta_slope);
            grad_d = s.mul_add(step.grad_y, step.u, grad_d);
            grad_delta_bias = s.add(grad_delta_bias, grad_delta);
            s.store(grad_u, &mut results.u[l][first..]);
            s.store(grad_delta, &mut results.delta[l][first..]);
            if let Some(z) = &mut results.z {
                s.store(s.mul(step.grad_gate, step.y), &mut z[l][first..]);
            }
        }
        (scratch.grad_d[tile], scratch.grad_delta_bias[tile]) = (grad_d, grad_delta_bias);
    }

    /// Stores what was summed over the steps.
    #[inline(always)]
    fn finish<S: Lanes<V = V>>(&mut self, s: S) {
        let states = self.pass.inputs.sizes.state;
        let scratch = &*self.scratch;
        for (index, channels) in self.block.tiles(s).enumerate() {
            let tile = index * states..(index + 1) * states;
            if let Some(rows) = self.pass.gradients.initial_state {
                // SAFETY: the tasks' channels are disjoint.
                unsafe { store_states(s, &scratch.grad_state[tile.clone()], rows, self.block.batch, &channels) };
            }
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
