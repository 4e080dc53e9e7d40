//! The innermost loops: a tile of channels, a chunk of steps, a group of states in registers.

// Arrays of vectors are walked by index, several of them at once, in loops that are unrolled.
#![allow(clippy::needless_range_loop)]

use crate::lanes::Lanes;

/// A loop over a chunk's steps that holds the states `first..first + N` in registers and takes `W` of them at a time.
pub(super) trait Recurrence<S: Lanes> {
    /// Vectors of each state that are best kept in registers.
    const PER_STATE: usize;

    fn run<const N: usize, const W: usize>(&mut self, s: S, first: usize);
}

/// Runs a loop for all states, in groups as large as the registers hold.
#[inline(always)]
pub(super) fn for_all_states<S: Lanes, R: Recurrence<S>>(s: S, states: usize, mut recurrence: R) {
    let mut first = 0;
    while S::REGISTERS > 16 * R::PER_STATE && states - first >= 16 {
        recurrence.run::<16, 4>(s, first);
        first += 16;
    }
    while states - first >= 8 {
        recurrence.run::<8, 4>(s, first);
        first += 8;
    }
    while first < states {
        recurrence.run::<1, 1>(s, first);
        first += 1;
    }
}

/// `for n in (0..N).step_by(W)`, written out: left to itself, the compiler keeps a loop of such long steps as a loop,
/// and then the states, which it would index by a variable, in memory.
macro_rules! unrolled {
    (for $n:ident in 0..$count:ident by $width:ident $body:block) => {
        unrolled!(for $n in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] of $count by $width $body)
    };
    (for $n:ident in [$($index:literal)*] of $count:ident by $width:ident $body:block) => {
        const { assert!($count <= 16 && $count % $width == 0) };
        $(
            if $index < $count && $index % $width == 0 {
                let $n = $index;
                $body
            }
        )*
    };
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

/// `exp(delta A)` for the states from `n` on.
#[inline(always)]
fn decays<S: Lanes, const N: usize, const W: usize>(s: S, delta: S::V, rate: &[S::V; N], n: usize) -> [S::V; W] {
    let mut exponent = [delta; W];
    for i in 0..W {
        exponent[i] = s.mul(delta, rate[n + i]);
    }
    s.exp2(exponent)
}

/// The sum of several vectors, which are summed apart so that none waits for another.
#[inline(always)]
fn total<S: Lanes, const W: usize>(s: S, mut sums: [S::V; W]) -> S::V {
    let mut left = W;
    while left > 1 {
        left /= 2;
        for i in 0..left {
            sums[i] = s.add(sums[i], sums[i + left]);
        }
    }
    sums[0]
}

/// A step of a tile, forward.
#[derive(Clone, Copy)]
pub(super) struct ForwardStep<V> {
    /// The step size as the decay takes it.
    pub(super) decay_step: V,
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

/// A step of a tile, backward.
#[derive(Clone, Copy)]
pub(super) struct BackwardStep<V> {
    pub(super) u: V,
    /// The step size.
    pub(super) delta: V,
    /// The step size as the decay takes it.
    pub(super) decay_step: V,
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
pub(super) struct Kept<V> {
    /// The state before the step.
    pub(super) before: V,
    /// `exp(delta A)`
    pub(super) decay: V,
}

/// Moves the states through a chunk, keeps what the walk back needs, and adds up the output.
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
    /// `[step, state]`, with one step more for the states after the chunk.
    pub(super) kept: &'a mut [Kept<V>],
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
    /// `[step, state]`, with one step more for the states after the chunk.
    pub(super) kept: &'a [Kept<V>],
    /// `[step, state]`, summed over the channels.
    pub(super) grad_b: &'a mut [f32],
    /// `[step, state]`, summed over the channels.
    pub(super) grad_c: &'a mut [f32],
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
