//! The forward pass: one walk over the tokens.

use std::ops::Range;

use rayon::prelude::*;

use super::Inputs;
use super::block::{self, Block, CHUNK, Constants, load_matrix, load_states, store_states};
use super::recurrence::{ForwardStep, Scan, for_all_states};
use crate::lanes::{self, Kernel, Lanes, gate, softplus};
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
    steps: Vec<ForwardStep<V>>,
}

impl<V: Copy> Scratch<V> {
    fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
        Self {
            constants: Constants::new(s, sizes),
            state: vec![s.zero(); block::tiles::<S>() * sizes.state],
            b: vec![0.0; CHUNK * sizes.state],
            c: vec![0.0; CHUNK * sizes.state],
            steps: vec![ForwardStep { delta: s.zero(), delta_u: s.zero(), y: s.zero() }; CHUNK],
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
        let Sizes { token, state: states, .. } = inputs.sizes;
        let scratch = &mut *self.scratch;
        scratch.constants.load(s, inputs, &self.block);
        for (state, channels) in scratch.state.chunks_exact_mut(states).zip(self.block.tiles(s)) {
            match inputs.initial_state {
                Some(rows) => load_states(s, rows, self.block.batch, &channels, state),
                None => state.fill(s.zero()),
            }
        }
        for first in (0..token).step_by(CHUNK) {
            self.chunk(s, first..token.min(first + CHUNK));
        }
        if let Some(rows) = self.pass.last_state {
            for (state, channels) in self.scratch.state.chunks_exact(states).zip(self.block.tiles(s)) {
                // SAFETY: the tasks' channels are disjoint.
                unsafe { store_states(s, state, rows, self.block.batch, &channels) };
            }
        }
    }
}

impl<V: Copy> Task<'_, V> {
    /// A chunk of steps, for all tiles of the block.
    #[inline(always)]
    fn chunk<S: Lanes<V = V>>(&mut self, s: S, steps: Range<usize>) {
        let inputs = &self.pass.inputs;
        let states = inputs.sizes.state;
        let batch = self.block.batch;
        let scratch = &mut *self.scratch;
        load_matrix(inputs, inputs.b, batch, steps.clone(), &mut scratch.b);
        load_matrix(inputs, inputs.c, batch, steps.clone(), &mut scratch.c);
        for (tile, channels) in self.block.tiles(s).enumerate() {
            let d = scratch.constants.d[tile];
            let delta_bias = scratch.constants.delta_bias[tile];
            let loaded = &mut scratch.steps[..steps.len()];
            for (step, into) in steps.clone().zip(loaded.iter_mut()) {
                let token = inputs.order.token(step);
                let u = s.load(inputs.u.columns(batch, token, channels.clone()));
                let raw = s.add(s.load(inputs.delta.columns(batch, token, channels.clone())), delta_bias);
                let delta = if inputs.delta_softplus { softplus(s, raw) } else { raw };
                *into = ForwardStep { delta, delta_u: s.mul(delta, u), y: s.mul(d, u) };
            }
            let scan = Scan {
                rate: &scratch.constants.rate[tile * states..][..states],
                state: &mut scratch.state[tile * states..][..states],
                b: &scratch.b,
                c: &scratch.c,
                steps: loaded,
            };
            for_all_states(s, states, scan);
            for (step, from) in steps.clone().zip(&scratch.steps) {
                let token = inputs.order.token(step);
                let out = match inputs.z {
                    Some(z) => s.mul(from.y, gate(s, s.load(z.columns(batch, token, channels.clone())))),
                    None => from.y,
                };
                // SAFETY: the tasks' channels are disjoint, a task's steps have tokens of their own, and the borrow ends here.
                s.store(out, unsafe { self.pass.out.columns(batch, token, channels.clone()) });
            }
        }
    }
}
