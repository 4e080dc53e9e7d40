//! What a whole sequence does to the state that it starts from: a walk without output.

use std::ops::Range;

use rayon::prelude::*;

use super::Inputs;
use super::block::{
    self, Block, CHUNK, Constants, decay_step, load_all_states, load_matrix, prefetch, step_size, store_all_states,
};
use super::recurrence::{ForwardStep, Scan, for_all_states};
use crate::lanes::{self, Kernel, Lanes};
use crate::pool::Pool;
use crate::rows::RowsMut;
use crate::selective_scan::shape::Sizes;

/// The walk over all sequences.
pub(super) struct Walk<'a> {
    pub(super) inputs: Inputs<'a>,
    /// `[batch, channel, state]`
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
    /// B of a chunk, `[step, state]`.
    b: Vec<f32>,
    steps: [ForwardStep<V>; CHUNK],
}

impl<V: Copy> Scratch<V> {
    fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
        let tiles = block::tiles(s, sizes);
        Self {
            constants: Constants::new(s, sizes),
            state: vec![s.zero(); tiles * sizes.state],
            deltas: vec![s.zero(); tiles],
            b: vec![0.0; CHUNK * sizes.state],
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
        load_all_states(s, inputs.initial_state, sizes, &self.block, &mut scratch.state);
        for first in (0..token).step_by(CHUNK) {
            self.chunk(s, first..token.min(first + CHUNK));
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
        load_matrix(inputs, inputs.b, block.batch, steps.clone(), &mut scratch.b);
        let u = inputs.chunk(inputs.u, block, &steps);
        let delta = inputs.chunk(inputs.delta, block, &steps);
        let next = steps.end..inputs.sizes.token.min(steps.end + CHUNK);
        let next = [inputs.u, inputs.delta].map(|x| inputs.chunk(x, block, &next));
        for tile in 0..block.channels.len().div_ceil(S::COUNT) {
            let first = tile * S::COUNT;
            let delta_bias = scratch.constants.delta_bias[tile];
            prefetch(s, &next, first);
            let loaded = &mut scratch.steps[..steps.len()];
            let mut sum = scratch.deltas[tile];
            for ((step, u), delta) in loaded.iter_mut().zip(&u).zip(&delta) {
                let u = s.load(&u[first..]);
                let delta = step_size(s, inputs, s.load(&delta[first..]), delta_bias);
                sum = s.add(sum, delta);
                *step = ForwardStep { decay_step: decay_step(s, delta), delta_u: s.mul(delta, u), y: s.zero() };
            }
            scratch.deltas[tile] = sum;
            let scan = Scan {
                rate: &scratch.constants.rate[tile * states..][..states],
                state: &mut scratch.state[tile * states..][..states],
                b: &scratch.b,
                c: &scratch.b, // of what C makes of the states nothing is kept
                steps: loaded,
            };
            for_all_states(s, states, scan);
        }
    }
}
