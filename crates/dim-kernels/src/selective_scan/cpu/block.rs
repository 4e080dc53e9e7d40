//! Blocks of channels, the tasks of a scan, and what is constant along a block's tokens.

use std::ops::Range;

use super::Inputs;
use crate::lanes::Lanes;
use crate::rows::{Rows, RowsMut};
use crate::selective_scan::shape::Sizes;

/// Channels of a task: few enough that small batches make tasks for many cores, many enough that what a task does
/// once per token is small.
pub(super) const CHANNELS: usize = 64;

/// Steps that are taken at once: their states, decays and sums must fit into the first cache.
pub(super) const CHUNK: usize = 8;

/// The channels of one sequence that a task computes.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) batch: usize,
    pub(super) channels: Range<usize>,
}

impl Block {
    /// Blocks in a sequence.
    pub(super) fn per_sequence(sizes: Sizes) -> usize {
        sizes.channel.div_ceil(CHANNELS)
    }

    /// The block of a task's index, which counts the blocks of the first sequence first.
    pub(super) fn of_task(task: usize, sizes: Sizes) -> Self {
        let first = task % Self::per_sequence(sizes) * CHANNELS;
        Self { batch: task / Self::per_sequence(sizes), channels: first..sizes.channel.min(first + CHANNELS) }
    }

    /// The channels of every tile; the last tile may be narrower than its vectors.
    #[inline(always)]
    pub(super) fn tiles<S: Lanes>(&self, _: S) -> impl Iterator<Item = Range<usize>> + use<S> {
        let Range { start, end } = self.channels;
        (start..end).step_by(S::COUNT).map(move |first| first..end.min(first + S::COUNT))
    }
}

/// Tiles of the widest block.
pub(super) const fn tiles<S: Lanes>() -> usize {
    CHANNELS.div_ceil(S::COUNT)
}

/// Vectors that a block keeps for each of its tiles.
pub(super) struct Constants<V> {
    /// `A log2(e)`, `[tile, state]`, so that the decay is a power of two.
    pub(super) rate: Vec<V>,
    /// `[tile]`
    pub(super) d: Vec<V>,
    /// `[tile]`
    pub(super) delta_bias: Vec<V>,
}

impl<V: Copy> Constants<V> {
    pub(super) fn new<S: Lanes<V = V>>(s: S, sizes: Sizes) -> Self {
        let vectors = |count| vec![s.zero(); count];
        Self { rate: vectors(tiles::<S>() * sizes.state), d: vectors(tiles::<S>()), delta_bias: vectors(tiles::<S>()) }
    }

    #[inline(always)]
    pub(super) fn load<S: Lanes<V = V>>(&mut self, s: S, inputs: &Inputs<'_>, block: &Block) {
        let states = inputs.sizes.state;
        let vector = |rows: Option<Rows<'_>>, channels: &Range<usize>| {
            rows.map_or(s.zero(), |rows| s.load(rows.columns(0, 0, channels.clone())))
        };
        for (tile, channels) in block.tiles(s).enumerate() {
            let rate = &mut self.rate[tile * states..][..states];
            load_states(s, inputs.a, 0, &channels, rate);
            for rate in rate {
                *rate = s.mul(*rate, s.splat(std::f32::consts::LOG2_E));
            }
            self.d[tile] = vector(inputs.d, &channels);
            self.delta_bias[tile] = vector(inputs.delta_bias, &channels);
        }
    }
}

/// Transposes `[channel, state]` into a vector of channels for each state.
#[inline(always)]
pub(super) fn load_states<S: Lanes>(s: S, rows: Rows<'_>, batch: usize, channels: &Range<usize>, into: &mut [S::V]) {
    for (state, into) in into.iter_mut().enumerate() {
        let mut lanes = [0.0; 16];
        for (lane, channel) in lanes.iter_mut().zip(channels.clone()) {
            *lane = rows.row(batch, channel)[state];
        }
        *into = s.load(&lanes);
    }
}

/// Transposes a vector of channels for each state into `[channel, state]`.
///
/// # Safety
/// Nobody else may use the rows of these channels meanwhile.
#[inline(always)]
pub(super) unsafe fn store_states<S: Lanes>(
    s: S,
    from: &[S::V],
    rows: RowsMut<'_>,
    batch: usize,
    channels: &Range<usize>,
) {
    for (state, &from) in from.iter().enumerate() {
        let mut lanes = [0.0; 16];
        s.store(from, &mut lanes);
        for (lane, channel) in lanes.into_iter().zip(channels.clone()) {
            // SAFETY: the caller keeps others away from these rows, and here no two borrows live at once.
            let row = unsafe { rows.row(batch, channel) };
            row[state] = lane;
        }
    }
}

/// Copies a chunk's rows of B or C to `[step, state]`.
#[inline(always)]
pub(super) fn load_matrix(inputs: &Inputs<'_>, from: Rows<'_>, batch: usize, steps: Range<usize>, into: &mut [f32]) {
    for (step, into) in steps.zip(into.chunks_exact_mut(inputs.sizes.state)) {
        into.copy_from_slice(from.row(batch, inputs.order.token(step)));
    }
}
