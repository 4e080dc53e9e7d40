//! Forward, and what of backward needs no more.

use super::{Recurrence, decays, group, group_mut, total};
use crate::lanes::Lanes;

/// A step of a tile, forward.
#[derive(Clone, Copy)]
pub(in crate::selective_scan::cpu) struct ForwardStep<V> {
    /// The step size as the decay takes it.
    pub(in crate::selective_scan::cpu) decay_step: V,
    /// The step size times the scan's input; on the way back the gradient by the output before the gate.
    pub(in crate::selective_scan::cpu) delta_u: V,
    /// Where `C h` is added.
    pub(in crate::selective_scan::cpu) y: V,
}

impl<V: Copy> ForwardStep<V> {
    /// A step that is still to be loaded.
    pub(in crate::selective_scan::cpu) fn zero<S: Lanes<V = V>>(s: S) -> Self {
        Self { decay_step: s.zero(), delta_u: s.zero(), y: s.zero() }
    }
}

/// Moves the states through a chunk and adds up the output.
pub(in crate::selective_scan::cpu) struct Scan<'a, V> {
    /// `[state]`
    pub(in crate::selective_scan::cpu) rate: &'a [V],
    /// `[state]`, before and after the chunk.
    pub(in crate::selective_scan::cpu) state: &'a mut [V],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) b: &'a [f32],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) c: &'a [f32],
    pub(in crate::selective_scan::cpu) steps: &'a mut [ForwardStep<V>],
}

impl<S: Lanes> Recurrence<S> for Scan<'_, S::V> {
    const PER_STATE: usize = 1;

    #[inline(always)]
    fn run<const N: usize, const W: usize>(&mut self, s: S, first: usize) {
        let states = self.state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let mut h: [S::V; N] = *group(self.state, first);
        for (l, step) in self.steps.iter_mut().enumerate() {
            let at = l * states + first;
            let (b, c): (&[f32; N], &[f32; N]) = (group(self.b, at), group(self.c, at));
            let mut y = [s.zero(); W];
            unrolled!(for n in 0..N by W {
                let decay: [S::V; W] = decays(s, step.decay_step, rate, n);
                for i in 0..W {
                    h[n + i] = s.mul_add(decay[i], h[n + i], s.mul(step.delta_u, s.splat(b[n + i])));
                }
                for i in 0..W {
                    y[i] = s.mul_add(h[n + i], s.splat(c[n + i]), y[i]);
                }
            });
            step.y = s.add(step.y, total(s, y));
        }
        *group_mut(self.state, first) = h;
    }
}

/// Moves the gradient by the states back through a chunk.
pub(in crate::selective_scan::cpu) struct Back<'a, V> {
    /// `[state]`
    pub(in crate::selective_scan::cpu) rate: &'a [V],
    /// `[state]`: by the states after the chunk, from later steps only; then by those before it.
    pub(in crate::selective_scan::cpu) grad_state: &'a mut [V],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) c: &'a [f32],
    pub(in crate::selective_scan::cpu) steps: &'a [ForwardStep<V>],
}

impl<S: Lanes> Recurrence<S> for Back<'_, S::V> {
    const PER_STATE: usize = 1;

    #[inline(always)]
    fn run<const N: usize, const W: usize>(&mut self, s: S, first: usize) {
        let states = self.grad_state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let mut grad_h: [S::V; N] = *group(self.grad_state, first);
        for (l, step) in self.steps.iter().enumerate().rev() {
            let c: &[f32; N] = group(self.c, l * states + first);
            unrolled!(for n in 0..N by W {
                let decay: [S::V; W] = decays(s, step.decay_step, rate, n);
                for i in 0..W {
                    let by_output = s.mul_add(step.delta_u, s.splat(c[n + i]), grad_h[n + i]);
                    grad_h[n + i] = s.mul(decay[i], by_output);
                }
            });
        }
        *group_mut(self.grad_state, first) = grad_h;
    }
}
