//! The innermost loops: a tile of channels, a chunk of steps, a group of states in registers.

use crate::lanes::Lanes;

/// A loop over a chunk's steps that holds the states `first..first + N` in registers.
pub(super) trait Recurrence<S: Lanes> {
    fn run<const N: usize>(&mut self, s: S, first: usize);
}

/// Runs a loop for all states, in groups as large as the registers hold.
#[inline(always)]
pub(super) fn for_all_states<S: Lanes>(s: S, states: usize, mut recurrence: impl Recurrence<S>) {
    let mut first = 0;
    while S::STATES_IN_REGISTERS >= 16 && states - first >= 16 {
        recurrence.run::<16>(s, first);
        first += 16;
    }
    while states - first >= 8 {
        recurrence.run::<8>(s, first);
        first += 8;
    }
    while first < states {
        recurrence.run::<1>(s, first);
        first += 1;
    }
}

/// `values[first..first + N]` as an array.
#[inline(always)]
fn group<T, const N: usize>(values: &[T], first: usize) -> &[T; N] {
    values[first..].first_chunk().expect("a group of states lies within the states")
}

/// `values[first..first + N]` as an array.
#[inline(always)]
fn group_mut<T, const N: usize>(values: &mut [T], first: usize) -> &mut [T; N] {
    values[first..].first_chunk_mut().expect("a group of states lies within the states")
}

/// A step of a tile, forward.
#[derive(Clone, Copy)]
pub(super) struct ForwardStep<V> {
    /// The step size.
    pub(super) delta: V,
    /// The step size times the scan's input.
    pub(super) delta_u: V,
    /// Where `C h` is added.
    pub(super) y: V,
}

/// Moves the states through a chunk and adds up the output.
pub(super) struct Scan<'a, V> {
    /// `[state]`
    pub(super) rate: &'a [V],
    /// `[state]`, before and after the chunk.
    pub(super) state: &'a mut [V],
    /// `[step, state]`
    pub(super) b: &'a [f32],
    /// `[step, state]`
    pub(super) c: &'a [f32],
    pub(super) steps: &'a mut [ForwardStep<V>],
}

impl<S: Lanes> Recurrence<S> for Scan<'_, S::V> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, s: S, first: usize) {
        let states = self.state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let mut h: [S::V; N] = *group(self.state, first);
        for (l, step) in self.steps.iter_mut().enumerate() {
            let b: &[f32; N] = group(self.b, l * states + first);
            let c: &[f32; N] = group(self.c, l * states + first);
            // Two sums, so that neither waits for the other.
            let mut y = [step.y, s.zero()];
            for n in 0..N {
                let decay = s.exp2(s.mul(step.delta, rate[n]));
                h[n] = s.mul_add(decay, h[n], s.mul(step.delta_u, s.splat(b[n])));
                y[n % 2] = s.mul_add(h[n], s.splat(c[n]), y[n % 2]);
            }
            step.y = s.add(y[0], y[1]);
        }
        *group_mut(self.state, first) = h;
    }
}

/// A step of a tile, backward.
#[derive(Clone, Copy)]
pub(super) struct BackwardStep<V> {
    pub(super) u: V,
    /// The step size.
    pub(super) delta: V,
    /// The step size times the scan's input.
    pub(super) delta_u: V,
    /// Derivative of the step size by the raw delta.
    pub(super) delta_slope: V,
    /// The gradient by the output before the gate.
    pub(super) grad_y: V,
    /// The gradient by the output after the gate times the derivative of the gate.
    pub(super) grad_gate: V,
    /// Where `C h` is added.
    pub(super) y: V,
    /// Where the sum over the states of `B` times the gradient by the state is added.
    pub(super) grad_delta_u: V,
    /// Where the gradient by the step size through the decay is added, in units of log2(e).
    pub(super) grad_decay: V,
}

/// Moves the states through a chunk without output.
pub(super) struct Advance<'a, V> {
    /// `[state]`
    pub(super) rate: &'a [V],
    /// `[state]`, before and after the chunk.
    pub(super) state: &'a mut [V],
    /// `[step, state]`
    pub(super) b: &'a [f32],
    pub(super) steps: &'a [BackwardStep<V>],
}

impl<S: Lanes> Recurrence<S> for Advance<'_, S::V> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, s: S, first: usize) {
        let states = self.state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let mut h: [S::V; N] = *group(self.state, first);
        for (l, step) in self.steps.iter().enumerate() {
            let b: &[f32; N] = group(self.b, l * states + first);
            for n in 0..N {
                let decay = s.exp2(s.mul(step.delta, rate[n]));
                h[n] = s.mul_add(decay, h[n], s.mul(step.delta_u, s.splat(b[n])));
            }
        }
        *group_mut(self.state, first) = h;
    }
}

/// A state's part of a step, as the backward walk needs it.
#[derive(Clone, Copy)]
pub(super) struct Kept<V> {
    /// `exp(delta A)`
    pub(super) decay: V,
    /// What the decay leaves of the state before the step.
    pub(super) rest: V,
}

/// Moves the states through a chunk and keeps what the walk back needs; adds up the output and the gradient of C.
pub(super) struct Recompute<'a, V> {
    /// `[state]`
    pub(super) rate: &'a [V],
    /// `[state]`, before the chunk.
    pub(super) state: &'a [V],
    /// `[step, state]`
    pub(super) b: &'a [f32],
    /// `[step, state]`
    pub(super) c: &'a [f32],
    pub(super) steps: &'a mut [BackwardStep<V>],
    /// `[step, state]`
    pub(super) kept: &'a mut [Kept<V>],
    /// `[step, state]`, summed over tiles.
    pub(super) grad_c: &'a mut [V],
}

impl<S: Lanes> Recurrence<S> for Recompute<'_, S::V> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, s: S, first: usize) {
        let states = self.state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let mut h: [S::V; N] = *group(self.state, first);
        for (l, step) in self.steps.iter_mut().enumerate() {
            let at = l * states + first;
            let b: &[f32; N] = group(self.b, at);
            let c: &[f32; N] = group(self.c, at);
            let kept: &mut [Kept<S::V>; N] = group_mut(self.kept, at);
            let grad_c: &mut [S::V; N] = group_mut(self.grad_c, at);
            let mut y = [step.y, s.zero()];
            for n in 0..N {
                let decay = s.exp2(s.mul(step.delta, rate[n]));
                let rest = s.mul(decay, h[n]);
                kept[n] = Kept { decay, rest };
                h[n] = s.mul_add(step.delta_u, s.splat(b[n]), rest);
                y[n % 2] = s.mul_add(h[n], s.splat(c[n]), y[n % 2]);
                grad_c[n] = s.mul_add(h[n], step.grad_y, grad_c[n]);
            }
            step.y = s.add(y[0], y[1]);
        }
    }
}

/// Walks a chunk backwards.
pub(super) struct Reverse<'a, V> {
    /// `[state]`
    pub(super) rate: &'a [V],
    /// `[state]`: the gradient by the states after the chunk, from later steps only; then by those before it.
    pub(super) grad_state: &'a mut [V],
    /// `[state]`, summed over the steps.
    pub(super) grad_a: &'a mut [V],
    /// `[step, state]`
    pub(super) b: &'a [f32],
    /// `[step, state]`
    pub(super) c: &'a [f32],
    pub(super) steps: &'a mut [BackwardStep<V>],
    /// `[step, state]`
    pub(super) kept: &'a [Kept<V>],
    /// `[step, state]`, summed over tiles.
    pub(super) grad_b: &'a mut [V],
}

impl<S: Lanes> Recurrence<S> for Reverse<'_, S::V> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, s: S, first: usize) {
        let states = self.grad_state.len();
        let rate: &[S::V; N] = group(self.rate, first);
        let grad_a: &mut [S::V; N] = group_mut(self.grad_a, first);
        let mut later: [S::V; N] = *group(self.grad_state, first);
        for (l, step) in self.steps.iter_mut().enumerate().rev() {
            let at = l * states + first;
            let b: &[f32; N] = group(self.b, at);
            let c: &[f32; N] = group(self.c, at);
            let kept: &[Kept<S::V>; N] = group(self.kept, at);
            let grad_b: &mut [S::V; N] = group_mut(self.grad_b, at);
            let mut grad_delta_u = [step.grad_delta_u, s.zero()];
            let mut grad_decay = [step.grad_decay, s.zero()];
            for n in 0..N {
                let grad_h = s.mul_add(step.grad_y, s.splat(c[n]), later[n]);
                grad_delta_u[n % 2] = s.mul_add(grad_h, s.splat(b[n]), grad_delta_u[n % 2]);
                grad_b[n] = s.mul_add(grad_h, step.delta_u, grad_b[n]);
                let grad_exponent = s.mul(grad_h, kept[n].rest);
                grad_decay[n % 2] = s.mul_add(grad_exponent, rate[n], grad_decay[n % 2]);
                grad_a[n] = s.mul_add(grad_exponent, step.delta, grad_a[n]);
                later[n] = s.mul(grad_h, kept[n].decay);
            }
            step.grad_delta_u = s.add(grad_delta_u[0], grad_delta_u[1]);
            step.grad_decay = s.add(grad_decay[0], grad_decay[1]);
        }
        *group_mut(self.grad_state, first) = later;
    }
}
