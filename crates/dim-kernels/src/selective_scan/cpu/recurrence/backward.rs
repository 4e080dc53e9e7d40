//! Backward: to the end of a chunk, through it, and back.

use super::{Recurrence, decays, group, group_mut, total};
use crate::lanes::Lanes;

/// A step of a tile, backward.
#[derive(Clone, Copy)]
pub(in crate::selective_scan::cpu) struct BackwardStep<V> {
    pub(in crate::selective_scan::cpu) u: V,
    /// The step size.
    pub(in crate::selective_scan::cpu) delta: V,
    /// The step size as the decay takes it.
    pub(in crate::selective_scan::cpu) decay_step: V,
    /// The step size times the scan's input.
    pub(in crate::selective_scan::cpu) delta_u: V,
    /// Derivative of the step size by the raw delta.
    pub(in crate::selective_scan::cpu) delta_slope: V,
    /// The gradient by the output before the gate.
    pub(in crate::selective_scan::cpu) grad_y: V,
    /// The gradient by the output after the gate times the derivative of the gate.
    pub(in crate::selective_scan::cpu) grad_gate: V,
    /// Where `C h` is added.
    pub(in crate::selective_scan::cpu) y: V,
    /// Where the sum over the states of `B` times the gradient by the state is added.
    pub(in crate::selective_scan::cpu) grad_delta_u: V,
    /// Where the gradient by the step size through the decay is added, in units of log2(e).
    pub(in crate::selective_scan::cpu) grad_decay: V,
}

/// Moves the states through a chunk without output.
pub(in crate::selective_scan::cpu) struct Advance<'a, V> {
    /// `[state]`
    pub(in crate::selective_scan::cpu) rate: &'a [V],
    /// `[state]`, before and after the chunk.
    pub(in crate::selective_scan::cpu) state: &'a mut [V],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) b: &'a [f32],
    pub(in crate::selective_scan::cpu) steps: &'a [BackwardStep<V>],
}

impl<S: Lanes> Recurrence<S> for Advance<'_, S::V> {
    const PER_STATE: usize = 1;

    #[inline(always)]
    fn run<const N: usize, const W: usize>(&mut self, s: S, first: usize) {
        let states = self.state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let mut h: [S::V; N] = *group(self.state, first);
        for (l, step) in self.steps.iter().enumerate() {
            let b: &[f32; N] = group(self.b, l * states + first);
            unrolled!(for n in 0..N by W {
                let decay: [S::V; W] = decays(s, step.decay_step, rate, n);
                for i in 0..W {
                    h[n + i] = s.mul_add(decay[i], h[n + i], s.mul(step.delta_u, s.splat(b[n + i])));
                }
            });
        }
        *group_mut(self.state, first) = h;
    }
}

/// A state's part of a step, as the walk back needs it.
#[derive(Clone, Copy)]
pub(in crate::selective_scan::cpu) struct Kept<V> {
    /// The state before the step.
    pub(in crate::selective_scan::cpu) before: V,
    /// `exp(delta A)`
    pub(in crate::selective_scan::cpu) decay: V,
}

/// Moves the states through a chunk, keeps what the walk back needs, and adds up the output.
pub(in crate::selective_scan::cpu) struct Recompute<'a, V> {
    /// `[state]`
    pub(in crate::selective_scan::cpu) rate: &'a [V],
    /// `[state]`, before the chunk.
    pub(in crate::selective_scan::cpu) state: &'a [V],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) b: &'a [f32],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) c: &'a [f32],
    pub(in crate::selective_scan::cpu) steps: &'a mut [BackwardStep<V>],
    /// `[step, state]`, with one step more for the states after the chunk.
    pub(in crate::selective_scan::cpu) kept: &'a mut [Kept<V>],
}

impl<S: Lanes> Recurrence<S> for Recompute<'_, S::V> {
    const PER_STATE: usize = 1;

    #[inline(always)]
    fn run<const N: usize, const W: usize>(&mut self, s: S, first: usize) {
        let states = self.state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let mut h: [S::V; N] = *group(self.state, first);
        for (l, step) in self.steps.iter_mut().enumerate() {
            let at = l * states + first;
            let (b, c): (&[f32; N], &[f32; N]) = (group(self.b, at), group(self.c, at));
            let kept: &mut [Kept<S::V>; N] = group_mut(self.kept, at);
            let mut y = [s.zero(); W];
            unrolled!(for n in 0..N by W {
                let decay: [S::V; W] = decays(s, step.decay_step, rate, n);
                for i in 0..W {
                    kept[n + i] = Kept { before: h[n + i], decay: decay[i] };
                    h[n + i] = s.mul_add(decay[i], h[n + i], s.mul(step.delta_u, s.splat(b[n + i])));
                }
                for i in 0..W {
                    y[i] = s.mul_add(h[n + i], s.splat(c[n + i]), y[i]);
                }
            });
            step.y = s.add(step.y, total(s, y));
        }
        let kept: &mut [Kept<S::V>; N] = group_mut(self.kept, self.steps.len() * states + first);
        for n in 0..N {
            kept[n].before = h[n];
        }
    }
}

/// Walks a chunk backwards.
pub(in crate::selective_scan::cpu) struct Reverse<'a, V> {
    /// `[state]`
    pub(in crate::selective_scan::cpu) rate: &'a [V],
    /// `[state]`: the gradient by the states after the chunk, from later steps only; then by those before it.
    pub(in crate::selective_scan::cpu) grad_state: &'a mut [V],
    /// `[state]`, summed over the steps.
    pub(in crate::selective_scan::cpu) grad_a: &'a mut [V],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) b: &'a [f32],
    /// `[step, state]`
    pub(in crate::selective_scan::cpu) c: &'a [f32],
    pub(in crate::selective_scan::cpu) steps: &'a mut [BackwardStep<V>],
    /// `[step, state]`, with one step more for the states after the chunk.
    pub(in crate::selective_scan::cpu) kept: &'a [Kept<V>],
    /// `[step, state]`, summed over the channels.
    pub(in crate::selective_scan::cpu) grad_b: &'a mut [f32],
    /// `[step, state]`, summed over the channels.
    pub(in crate::selective_scan::cpu) grad_c: &'a mut [f32],
}

impl<S: Lanes> Recurrence<S> for Reverse<'_, S::V> {
    // The gradient by the state, the rate and its gradient.
    const PER_STATE: usize = 3;

    #[inline(always)]
    fn run<const N: usize, const W: usize>(&mut self, s: S, first: usize) {
        let states = self.grad_state.len();
        let rate: [S::V; N] = *group(self.rate, first);
        let mut grad_a: [S::V; N] = *group(self.grad_a, first);
        let mut later: [S::V; N] = *group(self.grad_state, first);
        for (l, step) in self.steps.iter_mut().enumerate().rev() {
            let at = l * states + first;
            let (b, c): (&[f32; N], &[f32; N]) = (group(self.b, at), group(self.c, at));
            let kept: &[Kept<S::V>; N] = group(self.kept, at);
            let next: &[Kept<S::V>; N] = group(self.kept, at + states);
            let mut grad_delta_u = [s.zero(); W];
            let mut grad_decay = [s.zero(); W];
            let (mut grad_b, mut grad_c) = ([s.zero(); N], [s.zero(); N]);
            unrolled!(for n in 0..N by W {
                let mut grad_h = [s.zero(); W];
                let mut grad_exponent = [s.zero(); W];
                for i in 0..W {
                    grad_h[i] = s.mul_add(step.grad_y, s.splat(c[n + i]), later[n + i]);
                }
                for i in 0..W {
                    later[n + i] = s.mul(grad_h[i], kept[n + i].decay);
                    grad_b[n + i] = s.mul(grad_h[i], step.delta_u);
                    grad_c[n + i] = s.mul(step.grad_y, next[n + i].before);
                }
                for i in 0..W {
                    grad_exponent[i] = s.mul(later[n + i], kept[n + i].before);
                    grad_delta_u[i] = s.mul_add(grad_h[i], s.splat(b[n + i]), grad_delta_u[i]);
                }
                for i in 0..W {
                    grad_decay[i] = s.mul_add(grad_exponent[i], rate[n + i], grad_decay[i]);
                    grad_a[n + i] = s.mul_add(grad_exponent[i], step.delta, grad_a[n + i]);
                }
            });
            step.grad_delta_u = s.add(step.grad_delta_u, total(s, grad_delta_u));
            step.grad_decay = s.add(step.grad_decay, total(s, grad_decay));
            s.add_sums(grad_b, group_mut(self.grad_b, at));
            s.add_sums(grad_c, group_mut(self.grad_c, at));
        }
        *group_mut(self.grad_state, first) = later;
        *group_mut(self.grad_a, first) = grad_a;
    }
}
