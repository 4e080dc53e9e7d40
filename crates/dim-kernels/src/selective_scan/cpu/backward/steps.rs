//! What a step of the backward pass does without recurrence, before and after it.

use std::ops::Range;

use super::task::Task;
use crate::lanes::{Lanes, gate_and_slope, softplus_and_slope};
use crate::rows::RowsMut;
use crate::selective_scan::cpu::block::{ChunkRows, ChunkRowsMut, decay_step};
use crate::selective_scan::cpu::recurrence::BackwardStep;

/// The rows that a chunk reads.
pub(super) struct InputRows<'a> {
    pub(super) len: usize,
    pub(super) u: ChunkRows<'a>,
    pub(super) delta: ChunkRows<'a>,
    pub(super) z: Option<ChunkRows<'a>>,
    pub(super) grad_out: ChunkRows<'a>,
}

/// The rows that a chunk overwrites.
pub(super) struct ResultRows<'a> {
    pub(super) len: usize,
    pub(super) u: ChunkRowsMut<'a>,
    pub(super) delta: ChunkRowsMut<'a>,
    pub(super) z: Option<ChunkRowsMut<'a>>,
}

impl<'a, V: Copy> Task<'a, V> {
    /// The rows that a chunk reads.
    #[inline(always)]
    pub(super) fn rows(&self, steps: &Range<usize>) -> InputRows<'a> {
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
    pub(super) unsafe fn results(&self, steps: &Range<usize>) -> ResultRows<'a> {
        let gradients = &self.pass.gradients;
        // SAFETY: the caller answers for it.
        let rows = |rows: RowsMut<'a>| unsafe { self.pass.inputs.chunk_mut(rows, &self.block, steps) };
        ResultRows { len: steps.len(), u: rows(gradients.u), delta: rows(gradients.delta), z: gradients.z.map(rows) }
    }

    /// Loads a tile's steps and applies what has no recurrence.
    #[inline(always)]
    pub(super) fn load_steps<S: Lanes<V = V>>(&mut self, s: S, rows: &InputRows<'_>, tile: usize) {
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
    pub(super) fn store_steps<S: Lanes<V = V>>(&mut self, s: S, results: &mut ResultRows<'_>, tile: usize) {
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
}
