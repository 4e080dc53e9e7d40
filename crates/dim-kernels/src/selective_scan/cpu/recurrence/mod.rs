//! The innermost loops: a tile of channels, a chunk of steps, a group of states in registers.

// Arrays of vectors are walked by index, several of them at once, in loops that are unrolled.
#![allow(clippy::needless_range_loop)]

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

mod backward;
mod forward;

pub(super) use backward::{Advance, BackwardStep, Kept, Recompute, Reverse};
pub(super) use forward::{Back, ForwardStep, Scan};

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
