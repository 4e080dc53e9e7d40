//! Blocks of channels, the tasks of a scan, and what is constant along a block's tokens.

use std::ops::{Range, RangeInclusive};

use super::Inputs;
use crate::lanes::{Lanes, softplus};
use crate::rows::{Rows, RowsMut};
use crate::selective_scan::shape::Sizes;

/// The fewest and the most channels of a task. A row of few channels is a visit to a page of memory for little work; those
/// of many, with their states, leave the second cache.
const CHANNELS: RangeInclusive<usize> = 64..=256;

/// Tasks that a scan is cut into if its channels suffice, so that many cores find work and share it evenly.
const TASKS: usize = 32;

/// Channels of a task are a multiple of this, the widest vector.
const WIDEST: usize = 16;

/// Steps that are taken at once: their states, decays and sums must fit into the first cache.
pub(super) const CHUNK: usize = 6;

/// The exponent of a decay is a step size times a rate. Neither enters it with more than this, so that it is finite;
/// the other one would have to be below 10^-16 for this to matter.
const LARGEST_FACTOR: f32 = 1e19;

/// A step size as it enters the exponent of a decay.
#[inline(always)]
pub(super) fn decay_step<S: Lanes>(s: S, delta: S::V) -> S::V {
    s.max(s.splat(-LARGEST_FACTOR), s.min(s.splat(LARGEST_FACTOR), delta))
}

/// A step size, from what the network puts out for it.
#[inline(always)]
pub(super) fn step_size<S: Lanes>(s: S, inputs: &Inputs<'_>, delta: S::V, delta_bias: S::V) -> S::V {
    let raw = s.add(delta, delta_bias);
    if inputs.delta_softplus { softplus(s, raw) } else { raw }
}

/// The channels of one sequence that a task computes.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) batch: usize,
    pub(super) channels: Range<usize>,
}

impl Block {
    /// Channels of every block of a sequence but the last, which has the rest.
    pub(super) fn width(sizes: Sizes) -> usize {
        let most = sizes.channel.div_ceil(*CHANNELS.start());
        let fewest = sizes.channel.div_ceil(*CHANNELS.end());
        let blocks = TASKS.div_ceil(sizes.batch.max(1)).min(most).max(fewest).max(1);
        sizes.channel.div_ceil(blocks).next_multiple_of(WIDEST)
    }

    /// Blocks in a sequence.
    pub(super) fn per_sequence(sizes: Sizes) -> usize {
        sizes.channel.div_ceil(Self::width(sizes).max(1))
    }

    /// The block of a task's index, which counts the blocks of the first sequence first.
    pub(super) fn of_task(task: usize, sizes: Sizes) -> Self {
        let first = task % Self::per_sequence(sizes) * Self::width(sizes);
        Self { batch: task / Self::per_sequence(sizes), channels: first..sizes.channel.min(first + Self::width(sizes)) }
    }

    /// The channels of every tile; the last tile may be narrower than its vectors.
    #[inline(always)]
    pub(super) fn tiles<S: Lanes>(&self, _: S) -> impl Iterator<Item = Range<usize>> + use<S> {
        let Range { start, end } = self.channels;
        (start..end).step_by(S::COUNT).map(move |first| first..end.min(first + S::COUNT))
    }
}

/// Tiles of the widest block.
pub(super) fn tiles<S: Lanes>(_: S, sizes: Sizes) -> usize {
    Block::width(sizes).div_ceil(S::COUNT)
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
        Self {
            rate: vectors(tiles(s, sizes) * sizes.state),
            d: vectors(tiles(s, sizes)),
            delta_bias: vectors(tiles(s, sizes)),
        }
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
                let log2 = s.mul(*rate, s.splat(std::f32::consts::LOG2_E));
                *rate = s.max(s.splat(-LARGEST_FACTOR), s.min(s.splat(LARGEST_FACTOR), log2));
            }
            self.d[tile] = vector(inputs.d, &channels);
            self.delta_bias[tile] = vector(inputs.delta_bias, &channels);
        }
    }
}

/// Transposes `[channel, state]` into a vector of channels for each state.
#[inline(always)]
fn load_states<S: Lanes>(s: S, rows: Rows<'_>, batch: usize, channels: &Range<usize>, into: &mut [S::V]) {
    for (group, into) in into.chunks_mut(WIDEST).enumerate() {
        let mut states = [[0.0; WIDEST]; WIDEST];
        for (lane, channel) in channels.clone().enumerate() {
            for (state, &value) in states.iter_mut().zip(&rows.row(batch, channel)[group * WIDEST..]) {
                state[lane] = value;
            }
        }
        for (into, lanes) in into.iter_mut().zip(&states) {
            *into = s.load(lanes);
        }
    }
}

/// [`load_states`] of every tile of a block, `[tile, state]`; zeros without `rows`.
#[inline(always)]
pub(super) fn load_all_states<S: Lanes>(s: S, rows: Option<Rows<'_>>, sizes: Sizes, block: &Block, into: &mut [S::V]) {
    for (into, channels) in into.chunks_exact_mut(sizes.state).zip(block.tiles(s)) {
        match rows {
            Some(rows) => load_states(s, rows, block.batch, &channels, into),
            None => into.fill(s.zero()),
        }
    }
}

/// [`store_states`] of every tile of a block, `[tile, state]`.
///
/// # Safety
/// As for [`store_states`].
#[inline(always)]
pub(super) unsafe fn store_all_states<S: Lanes>(s: S, from: &[S::V], rows: RowsMut<'_>, sizes: Sizes, block: &Block) {
    for (from, channels) in from.chunks_exact(sizes.state).zip(block.tiles(s)) {
        // SAFETY: the caller answers for it.
        unsafe { store_states(s, from, rows, block.batch, &channels) };
    }
}

/// Transposes a vector of channels for each state into `[channel, state]`.
///
/// # Safety
/// Nobody else may use the rows of these channels meanwhile.
#[inline(always)]
unsafe fn store_states<S: Lanes>(s: S, from: &[S::V], rows: RowsMut<'_>, batch: usize, channels: &Range<usize>) {
    for (group, from) in from.chunks(WIDEST).enumerate() {
        let mut states = [[0.0; WIDEST]; WIDEST];
        for (lanes, &from) in states.iter_mut().zip(from) {
            s.store(from, lanes);
        }
        for (lane, channel) in channels.clone().enumerate() {
            // SAFETY: the caller keeps others away from these rows, and here no two borrows live at once.
            let row = unsafe { rows.row(batch, channel) };
            for (value, state) in row[group * WIDEST..].iter_mut().zip(&states) {
                *value = state[lane];
            }
        }
    }
}

/// A block's channels at every step of a chunk; steps beyond the last one have none.
pub(super) type ChunkRows<'a> = [&'a [f32]; CHUNK];

/// [`ChunkRows`] to be overwritten.
pub(super) type ChunkRowsMut<'a> = [&'a mut [f32]; CHUNK];

impl<'a> Inputs<'a> {
    /// A block's channels of an input over the steps of a chunk.
    #[inline(always)]
    pub(super) fn chunk(&self, rows: Rows<'a>, block: &Block, steps: &Range<usize>) -> ChunkRows<'a> {
        let mut chunk = ChunkRows::default();
        for (row, step) in chunk.iter_mut().zip(steps.clone()) {
            *row = rows.columns(block.batch, self.order.token(step), block.channels.clone());
        }
        chunk
    }

    /// A block's channels of an output over the steps of a chunk.
    ///
    /// # Safety
    /// As long as the result lives, nobody may ask for any of the same elements.
    #[inline(always)]
    pub(super) unsafe fn chunk_mut<'b>(
        &self,
        rows: RowsMut<'b>,
        block: &Block,
        steps: &Range<usize>,
    ) -> ChunkRowsMut<'b> {
        let mut chunk = ChunkRowsMut::default();
        for (row, step) in chunk.iter_mut().zip(steps.clone()) {
            let token = self.order.token(step);
            // SAFETY: the steps have tokens of their own; for the rest the caller answers.
            *row = unsafe { rows.columns(block.batch, token, block.channels.clone()) };
        }
        chunk
    }
}

/// Asks the cache for a tile of rows that are needed a chunk later: rows lie too far apart for the processor to guess.
#[inline(always)]
pub(super) fn prefetch<S: Lanes>(s: S, rows: &[ChunkRows<'_>], first: usize) {
    for row in rows.as_flattened() {
        s.prefetch(row, first);
    }
}

/// [`prefetch`] of a tile of rows that are about to be overwritten.
#[inline(always)]
pub(super) fn prefetch_to_write<S: Lanes>(s: S, rows: &ChunkRowsMut<'_>, first: usize) {
    for row in rows {
        s.prefetch_to_write(row, first);
    }
}

/// Copies a chunk's rows of B or C to `[step, state]`.
#[inline(always)]
pub(super) fn load_matrix(inputs: &Inputs<'_>, from: Rows<'_>, batch: usize, steps: Range<usize>, into: &mut [f32]) {
    for (step, into) in steps.zip(into.chunks_exact_mut(inputs.sizes.state)) {
        // Written out: a call to copy so few numbers costs more than to copy them.
        for (into, from) in into.iter_mut().zip(from.row(batch, inputs.order.token(step))) {
            *into = *from;
        }
    }
}
