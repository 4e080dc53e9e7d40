//! The backward pass: a walk over the tokens that keeps the states before every chunk, and one back.

use std::ops::Range;

use rayon::prelude::*;

use super::Inputs;
use super::block::{self, Block, CHUNK, Constants, load_matrix, load_states, store_states};
use super::recurrence::{Advance, BackwardStep, Kept, Recompute, Reverse, for_all_states};
use super::reduce::{Partial, PartialOfTask};
use crate::lanes::{self, Kernel, Lanes, gate_and_slope, softplus_and_slope};
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
    /// Their gradients, yet to be summed over the lanes, `[step, state]`.
    grad_b: Vec<V>,
    grad_c: Vec<V>,
    steps: Vec<BackwardStep<V>>,
    /// `[step, state]`
    kept: Vec<Kept<V>>,
}

impl<V: Copy> Scratch<V> {
    fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
        let Sizes { token, state, .. } = sizes;
        let tiles = block::tiles::<S>();
        let zero = s.zero();
        let step = BackwardStep {
            u: zero,
            delta: zero,
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
            grad_b: vec![zero; CHUNK * state],
            grad_c: vec![zero; CHUNK * state],
            steps: vec![step; CHUNK],
            kept: vec![Kept { decay: zero, rest: zero }; CHUNK * state],
        }
    }
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

impl<V: Copy> Task<'_, V> {
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
        let batch = self.block.batch;
        let scratch = &mut *self.scratch;
        load_matrix(inputs, inputs.b, batch, steps.clone(), &mut scratch.b);
        let of_chunk = block::tiles::<S>() * states;
        let (before, after) = scratch.states[chunk * of_chunk..][..2 * of_chunk].split_at_mut(of_chunk);
        for (tile, channels) in self.block.tiles(s).enumerate() {
            let delta_bias = scratch.constants.delta_bias[tile];
            for (step, into) in steps.clone().zip(scratch.steps.iter_mut()) {
                let token = inputs.order.token(step);
                let u = s.load(inputs.u.columns(batch, token, channels.clone()));
                let raw = s.add(s.load(inputs.delta.columns(batch, token, channels.clone())), delta_bias);
                into.delta = if inputs.delta_softplus { lanes::softplus(s, raw) } else { raw };
                into.delta_u = s.mul(into.delta, u);
            }
            let tile = tile * states..(tile + 1) * states;
            after[tile.clone()].copy_from_slice(&before[tile.clone()]);
            let advance = Advance {
                rate: &scratch.constants.rate[tile.clone()],
                state: &mut after[tile],
                b: &scratch.b,
                steps: &scratch.steps[..steps.len()],
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
        let batch = self.block.batch;
        load_matrix(inputs, inputs.b, batch, steps.clone(), &mut self.scratch.b);
        load_matrix(inputs, inputs.c, batch, steps.clone(), &mut self.scratch.c);
        self.scratch.grad_b.fill(s.zero());
        self.scratch.grad_c.fill(s.zero());
        for (index, channels) in self.block.tiles(s).enumerate() {
            self.load_steps(s, steps.clone(), index, &channels);
            let scratch = &mut *self.scratch;
            let tile = index * states..(index + 1) * states;
            let of_chunk = block::tiles::<S>() * states;
            let recompute = Recompute {
                rate: &scratch.constants.rate[tile.clone()],
                state: &scratch.states[chunk * of_chunk..][tile.clone()],
                b: &scratch.b,
                c: &scratch.c,
                steps: &mut scratch.steps[..steps.len()],
                kept: &mut scratch.kept,
                grad_c: &mut scratch.grad_c,
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
            };
            for_all_states(s, states, reverse);
            self.store_steps(s, steps.clone(), index, &channels);
        }
        for (l, step) in steps.enumerate() {
            let share = &mut self.partial.matrices[inputs.order.token(step) * 2 * states..][..2 * states];
            let (b, c) = share.split_at_mut(states);
            s.sums(&self.scratch.grad_b[l * states..][..states], b);
            s.sums(&self.scratch.grad_c[l * states..][..states], c);
        }
    }

    /// Loads a tile's steps and applies what has no recurrence.
    #[inline(always)]
    fn load_steps<S: Lanes<V = V>>(&mut self, s: S, steps: Range<usize>, tile: usize, channels: &Range<usize>) {
        let inputs = &self.pass.inputs;
        let batch = self.block.batch;
        let constants = &self.scratch.constants;
        for (step, into) in steps.zip(&mut self.scratch.steps) {
            let token = inputs.order.token(step);
            let load = |rows: Rows<'_>| s.load(rows.columns(batch, token, channels.clone()));
            let u = load(inputs.u);
            let raw = s.add(load(inputs.delta), constants.delta_bias[tile]);
            let (delta, delta_slope) =
                if inputs.delta_softplus { softplus_and_slope(s, raw) } else { (raw, s.splat(1.0)) };
            let grad_out = load(self.pass.grad_out);
            let (grad_y, grad_gate) = match inputs.z {
                Some(z) => {
                    let (gate, slope) = gate_and_slope(s, load(z));
                    (s.mul(grad_out, gate), s.mul(grad_out, slope))
                }
                None => (grad_out, s.zero()),
            };
            *into = BackwardStep {
                u,
                delta,
                delta_u: s.mul(delta, u),
                delta_slope,
                grad_y,
                grad_gate,
                y: s.mul(constants.d[tile], u),
                grad_delta_u: s.zero(),
                grad_decay: s.zero(),
            };
        }
    }

    /// Stores the gradients of a tile's steps.
    #[inline(always)]
    fn store_steps<S: Lanes<V = V>>(&mut self, s: S, steps: Range<usize>, tile: usize, channels: &Range<usize>) {
        let batch = self.block.batch;
        let scratch = &mut *self.scratch;
        let gradients = &self.pass.gradients;
        let (mut grad_d, mut grad_delta_bias) = (scratch.grad_d[tile], scratch.grad_delta_bias[tile]);
        for (step, from) in steps.zip(&scratch.steps) {
            let token = self.pass.inputs.order.token(step);
            let grad_u = s.mul_add(scratch.constants.d[tile], from.grad_y, s.mul(from.delta, from.grad_delta_u));
            let through_decay = s.mul(from.grad_decay, s.splat(std::f32::consts::LN_2));
            let grad_delta = s.mul_add(from.u, from.grad_delta_u, through_decay);
            let grad_delta = s.mul(grad_delta, from.delta_slope);
            grad_d = s.mul_add(from.grad_y, from.u, grad_d);
            grad_delta_bias = s.add(grad_delta_bias, grad_delta);
            let results = [
                (Some(gradients.u), grad_u),
                (Some(gradients.delta), grad_delta),
                (gradients.z, s.mul(from.grad_gate, from.y)),
            ];
            for (rows, result) in results {
                if let Some(rows) = rows {
                    // SAFETY: the tasks' channels are disjoint, a task's steps have tokens of their own, and the borrow ends here.
                    s.store(result, unsafe { rows.columns(batch, token, channels.clone()) });
                }
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
