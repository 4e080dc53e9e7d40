//! The forward pass: one walk over the tokens.

use std::ops::Range;

use rayon::prelude::*;

use super::Inputs;
use super::block::{
    self, Block, CHUNK, Constants, decay_step, load_all_states, load_matrix, prefetch, prefetch_to_write, step_size,
    store_all_states,
};
use super::recurrence::{ForwardStep, Scan, for_all_states};
use crate::lanes::{self, Kernel, Lanes, gate};
use crate::pool::Pool;
use crate::rows::RowsMut;
use crate::selective_scan::shape::Sizes;

/// The whole forward pass.
pub(super) struct Forward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) out: RowsMut<'a>,
    pub(super) last_state: Option<RowsMut<'a>>,
}

impl Kernel for Forward<'_> {
    fn run<S: Lanes>(self, s: S) {
        let sizes = self.inputs.sizes;
        let pool = Pool::new(|| Scratch::new(s, sizes));
        (0..sizes.batch * Block::per_sequence(sizes)).into_par_iter().for_each(|task| {
            let block = Block::of_task(task, sizes);
            pool.with(|scratch| s.enter(Task { pass: &self, block, scratch }));
        });
    }
}

/// A task's memory.
struct Scratch<V> {
    constants: Constants<V>,
    /// `[tile, state]`
    state: Vec<V>,
    /// B and C of a chunk, `[step, state]`.
    b: Vec<f32>,
    c: Vec<f32>,
    steps: [ForwardStep<V>; CHUNK],
}

impl<V: Copy> Scratch<V> {
    fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
        Self {
            constants: Constants::new(s, sizes),
            state: vec![s.zero(); block::tiles(s, sizes) * sizes.state],
            b: vec![0.0; CHUNK * sizes.state],
            c: vec![0.0; CHUNK * sizes.state],
            steps: [ForwardStep::zero(s); CHUNK],
        }
    }
}

/// One block of channels.
struct Task<'a, V> {
    pass: &'a Forward<'a>,
    block: Block,
    scratch: &'a mut Scratch<V>,
}

impl<S: Lanes> lanes::Task<S> for Task<'_, S::V> {
    #[inline(always)]
    fn run(mut self, s: S) {
        let inputs = &self.pass.inputs;
        let (sizes, token) = (inputs.sizes, inputs.sizes.token);
        let scratch = &mut *self.scratch;
        scratch.constants.load(s, inputs, &self.block);
        load_all_states(s, inputs.initial_state, sizes, &self.block, &mut scratch.state);
        for first in (0..token).step_by(CHUNK) {
            self.chunk(s, first..token.min(first + CHUNK));
        }
        if let Some(rows) = self.pass.last_state {
            // SAFETY: the tasks' channels are disjoint.
            unsafe { store_all_states(s, &self.scratch.state, rows, sizes, &self.block) };
        }
    }
}

impl<V: Copy> Task<'_, V> {
    /// A chunk of steps, for all tiles of the block.
    #[inline(always)]
    fn chunk<S: Lanes<V = V>>(&mut self, s: S, steps: Range<usize>) {
        let inputs = &self.pass.inputs;
        let block = &self.block;
        let states = inputs.sizes.state;
        let scratch = &mut *self.scratch;
        load_matrix(inputs, inputs.b, block.batch, steps.clone(), &mut scratch.b);
        load_matrix(inputs, inputs.c, block.batch, steps.clone(), &mut scratch.c);
        let u = inputs.chunk(inputs.u, block, &steps);
        let delta = inputs.chunk(inputs.delta, block, &steps);
        let z = inputs.z.map(|z| inputs.chunk(z, block, &steps));
        let next = steps.end..inputs.sizes.token.min(steps.end + CHUNK);
        let next = [inputs.u, inputs.delta, inputs.z.unwrap_or(inputs.u)].map(|x| inputs.chunk(x, block, &next));
        // SAFETY: the tasks' channels are disjoint, and the borrow ends with this chunk.
        let out = unsafe { inputs.chunk_mut(self.pass.out, block, &steps) };
        for tile in 0..block.channels.len().div_ceil(S::COUNT) {
            let first = tile * S::COUNT;
            let d = scratch.constants.d[tile];
            let delta_bias = scratch.constants.delta_bias[tile];
            prefetch(s, &next, first);
            prefetch_to_write(s, &out, first);
            let loaded = &mut scratch.steps[..steps.len()];
            for ((step, u), delta) in loaded.iter_mut().zip(&u).zip(&delta) {
                let u = s.load(&u[first..]);
                let delta = step_size(s, inputs, s.load(&delta[first..]), delta_bias);
                *step = ForwardStep { decay_step: decay_step(s, delta), delta_u: s.mul(delta, u), y: s.mul(d, u) };
            }
            let scan = Scan {
                rate: &scratch.constants.rate[tile * states..][..states],
                state: &mut scratch.state[tile * states..][..states],
                b: &scratch.b,
                c: &scratch.c,
                steps: loaded,
            };
            for_all_states(s, states, scan);
            for (l, step) in scratch.steps[..steps.len()].iter().enumerate() {
                let y = match &z {
                    Some(z) => s.mul(step.y, gate(s, s.load(&z[l][first..]))),
                    None => step.y,
                };
                s.store(y, &mut out[l][first..]);
            }
        }
    }
}
