//! A task's memory.

use crate::lanes::Lanes;
use crate::selective_scan::cpu::block::{self, CHUNK, Constants};
use crate::selective_scan::cpu::recurrence::{BackwardStep, Kept};
use crate::selective_scan::shape::Sizes;

/// What a task needs to remember; the next task overwrites it.
pub(super) struct Scratch<V> {
    pub(super) constants: Constants<V>,
    /// The states before every chunk, `[chunk, tile, state]`.
    pub(super) states: Vec<V>,
    /// The gradient by the state, `[tile, state]`.
    pub(super) grad_state: Vec<V>,
    /// `[tile, state]`
    pub(super) grad_a: Vec<V>,
    /// `[tile]`
    pub(super) grad_d: Vec<V>,
    /// `[tile]`
    pub(super) grad_delta_bias: Vec<V>,
    /// B and C of a chunk, `[step, state]`.
    pub(super) b: Vec<f32>,
    pub(super) c: Vec<f32>,
    /// Their gradients, summed over the block's channels.
    pub(super) grad_b: Vec<f32>,
    pub(super) grad_c: Vec<f32>,
    pub(super) steps: [BackwardStep<V>; CHUNK],
    /// `[step, state]`, with one step more for the states after the chunk.
    pub(super) kept: Vec<Kept<V>>,
}

impl<V: Copy> Scratch<V> {
    pub(super) fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
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
