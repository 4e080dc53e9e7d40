//! Sums over the tasks of the backward pass, in the order of the tasks.

use rayon::prelude::*;

use super::backward::Gradients;
use super::block::Block;
use crate::selective_scan::shape::Sizes;

/// What every task has summed over its own channels or tokens.
pub(super) struct Partial {
    sizes: Sizes,
    /// `[task, token, 2 state]`: the gradients of B and C, summed over the task's channels.
    matrices: Vec<f32>,
    /// `[task, channel of the block, state + 2]`: the gradients of A, D and the delta bias, summed over the tokens.
    vectors: Vec<f32>,
}

/// A task's share of [`Partial`].
pub(super) struct PartialOfTask<'a> {
    /// `[token, 2 state]`
    pub(super) matrices: &'a mut [f32],
    /// `[channel of the block, state + 2]`
    pub(super) vectors: &'a mut [f32],
}

impl Partial {
    pub(super) fn new(sizes: Sizes) -> Self {
        let tasks = sizes.batch * Block::per_sequence(sizes);
        Self {
            sizes,
            matrices: vec![0.0; tasks * Self::matrices_of_task(sizes)],
            vectors: vec![0.0; tasks * Self::vectors_of_task(sizes)],
        }
    }

    /// At least one, so that the tasks of an empty sequence have their shares too.
    fn matrices_of_task(sizes: Sizes) -> usize {
        (sizes.token * 2 * sizes.state).max(1)
    }

    fn vectors_of_task(sizes: Sizes) -> usize {
        (Block::width(sizes) * (sizes.state + 2)).max(1)
    }

    /// The share of every task, in order.
    pub(super) fn tasks(&mut self) -> impl IndexedParallelIterator<Item = PartialOfTask<'_>> {
        self.matrices
            .par_chunks_mut(Self::matrices_of_task(self.sizes))
            .zip(self.vectors.par_chunks_mut(Self::vectors_of_task(self.sizes)))
            .map(|(matrices, vectors)| PartialOfTask { matrices, vectors })
    }

    /// Sums the shares.
    pub(super) fn reduce(&self, gradients: &Gradients<'_>) {
        let Sizes { batch, token, channel, state } = self.sizes;
        let blocks = Block::per_sequence(self.sizes);
        let width = Block::width(self.sizes);

        let tokens = (0..batch).into_par_iter().flat_map_iter(|batch| (0..token).map(move |token| (batch, token)));
        tokens.for_each(|(batch, token)| {
            // SAFETY: every row is borrowed by one item of this loop, and by nothing else: the tasks are done.
            let (b, c) = unsafe { (gradients.b.row(batch, token), gradients.c.row(batch, token)) };
            let shares = self.matrices[batch * blocks * Self::matrices_of_task(self.sizes)..]
                .chunks_exact(Self::matrices_of_task(self.sizes))
                .take(blocks);
            b.fill(0.0);
            c.fill(0.0);
            for share in shares {
                let (share_b, share_c) = share[token * 2 * state..][..2 * state].split_at(state);
                add(b, share_b);
                add(c, share_c);
            }
        });

        (0..channel).into_par_iter().for_each(|channel| {
            // SAFETY: every row is borrowed by one item of this loop, and by nothing else: the tasks are done.
            let a = unsafe { gradients.a.row(0, channel) };
            let (mut d, mut delta_bias) = (0.0, 0.0);
            a.fill(0.0);
            for batch in 0..batch {
                let task = batch * blocks + channel / width;
                let share = &self.vectors[task * Self::vectors_of_task(self.sizes)..];
                let share = &share[channel % width * (state + 2)..][..state + 2];
                add(a, &share[..state]);
                d += share[state];
                delta_bias += share[state + 1];
            }
            for (rows, sum) in [(gradients.d, d), (gradients.delta_bias, delta_bias)] {
                if let Some(rows) = rows {
                    // SAFETY: as above, for single elements.
                    unsafe { rows.columns(0, 0, channel..channel + 1) }.fill(sum);
                }
            }
        });
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
