//! What a whole sequence does to the state that it starts from: a walk without output. From the end, what its outputs bring to the gradient by
//! that state.

use std::ops::Range;

use rayon::prelude::*;

use super::Inputs;
use super::block::{
    self, Block, CHUNK, Constants, decay_step, load_all_states, load_matrix, prefetch, step_size, store_all_states,
};
use super::recurrence::{Back, ForwardStep, Scan, for_all_states};
use crate::lanes::{self, Kernel, Lanes, gate_and_slope};
use crate::pool::Pool;
use crate::rows::{Rows, RowsMut};
use crate::selective_scan::shape::Sizes;

/// The walk over all sequences.
pub(super) struct Walk<'a> {
    pub(super) inputs: Inputs<'a>,
    /// The gradient by the output, of a walk from the end.
    pub(super) grad_out: Option<Rows<'a>>,
    /// `[batch, channel, state]`: the states after the last step, or the gradients by those before the first.
    pub(super) states: RowsMut<'a>,
    /// `[batch, channel]`
    pub(super) deltas: RowsMut<'a>,
}

impl Kernel for Walk<'_> {
    fn run<S: Lanes>(self, s: S) {
        let sizes = self.inputs.sizes;
        let pool = Pool::new(|| Scratch::new(s, sizes));
        (0..sizes.batch * Block::per_sequence(sizes)).into_par_iter().for_each(|task| {
            let block = Block::of_task(task, sizes);
            pool.with(|scratch| s.enter(Task { walk: &self, block, scratch }));
        });
    }
}

/// A task's memory.
struct Scratch<V> {
    constants: Constants<V>,
    /// `[tile, state]`
    state: Vec<V>,
    /// `[tile]`
    deltas: Vec<V>,
    /// B of a chunk, `[step, state]`; C from the end.
    matrix: Vec<f32>,
    steps: [ForwardStep<V>; CHUNK],
}

impl<V: Copy> Scratch<V> {
    fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
        let tiles = block::tiles(s, sizes);
        Self {
            constants: Constants::new(s, sizes),
            state: vec![s.zero(); tiles * sizes.state],
            deltas: vec![s.zero(); tiles],
            matrix: vec![0.0; CHUNK * sizes.state],
            steps: [ForwardStep::zero(s); CHUNK],
        }
    }
}

/// One block of channels.
struct Task<'a, V> {
    walk: &'a Walk<'a>,
    block: Block,
    scratch: &'a mut Scratch<V>,
}

impl<S: Lanes> lanes::Task<S> for Task<'_, S::V> {
    #[inline(always)]
    fn run(mut self, s: S) {
        let inputs = &self.walk.inputs;
        let (sizes, token) = (inputs.sizes, inputs.sizes.token);
        let scratch = &mut *self.scratch;
        scratch.constants.load(s, inputs, &self.block);
        scratch.deltas.fill(s.zero());
        let start = inputs.initial_state.filter(|_| self.walk.grad_out.is_none());
        load_all_states(s, start, sizes, &self.block, &mut scratch.state);
        let chunks = token.div_ceil(CHUNK);
        for index in 0..chunks {
            let chunk = if self.walk.grad_out.is_some() { chunks - 1 - index } else { index };
            self.chunk(s, chunk * CHUNK..token.min((chunk + 1) * CHUNK));
        }
        // SAFETY: the tasks' channels are disjoint.
        unsafe { store_all_states(s, &self.scratch.state, self.walk.states, sizes, &self.block) };
        // SAFETY: as above.
        let deltas = unsafe { self.walk.deltas.columns(0, self.block.batch, self.block.channels.clone()) };
        for (&sum, into) in self.scratch.deltas.iter().zip(deltas.chunks_mut(S::COUNT)) {
            s.store(sum, into);
        }
    }
}

impl<V: Copy> Task<'_, V> {
    /// A chunk of steps, for all tiles of the block.
    #[inline(always)]
    fn chunk<S: Lanes<V = V>>(&mut self, s: S, steps: Range<usize>) {
        let inputs = &self.walk.inputs;
        let block = &self.block;
        let states = inputs.sizes.state;
        let scratch = &mut *self.scratch;
        let (matrix, first, next) = match self.walk.grad_out {
            None => (inputs.b, inputs.u, steps.end..inputs.sizes.token.min(steps.end + CHUNK)),
            Some(grad_out) => (inputs.c, grad_out, steps.start.saturating_sub(CHUNK)..steps.start),
        };
        let gate = inputs.z.filter(|_| self.walk.grad_out.is_some());
        load_matrix(inputs, matrix, block.batch, steps.clone(), &mut scratch.matrix);
        let rows = inputs.chunk(first, block, &steps);
        let delta = inputs.chunk(inputs.delta, block, &steps);
        let gate = gate.map(|rows| inputs.chunk(rows, block, &steps));
        let next = [first, inputs.delta].map(|x| inputs.chunk(x, block, &next));
        for tile in 0..block.channels.len().div_ceil(S::COUNT) {
            let first = tile * S::COUNT;
            let delta_bias = scratch.constants.delta_bias[tile];
            prefetch(s, &next, first);
            let loaded = &mut scratch.steps[..steps.len()];
            let mut sum = scratch.deltas[tile];
            for (l, step) in loaded.iter_mut().enumerate() {
                let row = s.load(&rows[l][first..]);
                let delta = step_size(s, inputs, s.load(&delta[l][first..]), delta_bias);
                sum = s.add(sum, delta);
                let product = match (&gate, self.walk.grad_out) {
                    (Some(gate), _) => s.mul(row, gate_and_slope(s, s.load(&gate[l][first..])).0),
                    (None, Some(_)) => row,
                    (None, None) => s.mul(delta, row),
                };
                *step = ForwardStep { decay_step: decay_step(s, delta), delta_u: product, y: s.zero() };
            }
            scratch.deltas[tile] = sum;
            let rate = &scratch.constants.rate[tile * states..][..states];
            let state = &mut scratch.state[tile * states..][..states];
            if self.walk.grad_out.is_some() {
                for_all_states(s, states, Back { rate, grad_state: state, c: &scratch.matrix, steps: loaded });
            } else {
                // Of what C makes of the states nothing is kept.
                let (b, c) = (&scratch.matrix, &scratch.matrix);
                for_all_states(s, states, Scan { rate, state, b, c, steps: loaded });
            }
        }
    }
}
