//! The new values of every process's slice, sent to all while its optimiser is still at the rest of it.
//! Source: the split is Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054).
//!
//! A network that computes in bf16 needs the slices of others in bf16, half the bytes, but for what it reads in f32: little, and spread over the
//! buffer, so it is packed.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use tch::{Device, Kind, Tensor, no_grad};

use super::{Parameters, bf16_copy::Bf16Copy, layout::ALIGNMENT};
use crate::{
    TorchError,
    distributed::{Pending, World},
};

/// Pieces of a slice: the values of one travel while the next is computed.
const PIECES: i64 = 8;

/// How slices travel.
pub(super) struct Plan {
    /// Elements of every slice that travel together, in the order in which they do: those with most to be packed first, since the last journey is the one that
    /// little hides.
    pieces: Vec<Range<i64>>,
    /// Rows of [`ALIGNMENT`] elements of the flat buffer that are read in f32, i64, on the device: by piece, and in a piece by whose they are.
    rows: Tensor,
    /// How many of them each owner has in each piece.
    counts: Vec<Vec<i64>>,
}

impl Plan {
    /// For `owners` slices of `slice` elements, of whose flat buffer the elements `read` are read in f32.
    fn new((owners, slice): (usize, i64), read: &[Range<i64>], device: Device) -> Result<Self, TorchError> {
        let length = ((slice / PIECES + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT).max(ALIGNMENT);
        let pieces = (0..slice).step_by(length as usize).map(|first| first..(first + length).min(slice));
        let rows_of = |piece: &Range<i64>, owner: usize| -> Vec<i64> {
            let first = slice * owner as i64;
            let common = |read: &Range<i64>| read.start.max(first + piece.start)..read.end.min(first + piece.end);
            read.iter().map(common).flat_map(|range| range.start / ALIGNMENT..range.end / ALIGNMENT).collect()
        };
        let of_owners = |piece: Range<i64>| {
            let rows: Vec<Vec<i64>> = (0..owners).map(|owner| rows_of(&piece, owner)).collect();
            (piece, rows)
        };
        let mut found: Vec<_> = pieces.map(of_owners).collect();
        found.sort_by_key(|(_, rows)| Reverse(rows.iter().map(Vec::len).sum::<usize>()));
        let counts = found.iter().map(|(_, rows)| rows.iter().map(|rows| rows.len() as i64).collect()).collect();
        let rows: Vec<i64> = found.iter().flat_map(|(_, rows)| rows).flatten().copied().collect();
        let pieces = found.into_iter().map(|(piece, _)| piece).collect();
        Ok(Self { pieces, rows: Tensor::f_from_slice(&rows)?.f_to_device(device)?, counts })
    }

    /// The same, with the same tensor.
    pub(super) fn shallow_clone(&self) -> Self {
        Self { pieces: self.pieces.clone(), rows: self.rows.shallow_clone(), counts: self.counts.clone() }
    }
}

/// A step of all slices that is under way.
pub(crate) struct Gathering<'a> {
    world: &'a World,
    parameters: &'a Parameters,
    copy: Arc<Bf16Copy>,
    /// The copy of all parameters.
    flat: Tensor,
    /// Elements of a slice.
    slice: i64,
    plan: Plan,
    /// The rows of `plan`.
    packed: Tensor,
    /// The first of them that was not sent.
    next: i64,
    pending: Vec<Pending>,
}

impl Parameters {
    /// Begins to gather what the processes of `world` write of their slices in a step of the optimiser. `None` where that is not of use: there is no copy in
    /// bf16, or most is read in f32; then [`Parameters::share_parts`] comes after the step.
    pub(crate) fn begin_gathering<'a>(&'a self, world: &'a World) -> Result<Option<Gathering<'a>>, TorchError> {
        let Some(copy) = self.bf16.as_ref().filter(|_| 2 * self.reads.elements() < self.length()) else {
            return Ok(None);
        };
        let slice = self.padded.size()[0] / world.size() as i64;
        let split = (world.size(), slice);
        let plan = self.reads.plan(split, |read| Plan::new(split, read, self.device()))?;
        let packed = Tensor::f_empty([plan.rows.size()[0], ALIGNMENT], (Kind::Float, self.device()))?;
        let (copy, flat) = (Arc::clone(copy), copy.flat()?);
        Ok(Some(Gathering { world, parameters: self, copy, flat, slice, plan, packed, next: 0, pending: Vec::new() }))
    }
}

impl Gathering<'_> {
    /// The elements of a slice in the pieces in which they are to be written and sent.
    pub(crate) fn pieces(&self) -> Vec<Range<i64>> {
        self.plan.pieces.clone()
    }

    /// The bf16 copy of this process's slice, to be written along with it.
    pub(crate) fn own_copy(&self) -> Result<Tensor, TorchError> {
        Ok(self.flat.f_narrow(0, self.slice * self.world.rank() as i64, self.slice)?)
    }

    /// Every process has written this piece, the next one, of its slice and of its copy.
    pub(crate) fn send(&mut self, number: usize) -> Result<(), TorchError> {
        let piece = &self.plan.pieces[number];
        let mut tensors = Vec::with_capacity(2 * self.world.size());
        let rows = self.parameters.padded.f_view([-1, ALIGNMENT])?;
        for (owner, &count) in self.plan.counts[number].iter().enumerate() {
            let first = self.slice * owner as i64 + piece.start;
            tensors.push((owner, self.flat.f_narrow(0, first, piece.end - piece.start)?));
            let mut place = self.packed.f_narrow(0, self.next, count)?;
            if owner == self.world.rank() && count > 0 {
                place.f_copy_(&rows.f_index_select(0, &self.plan.rows.f_narrow(0, self.next, count)?)?)?;
            }
            tensors.push((owner, place));
            self.next += count;
        }
        self.pending.extend(self.world.broadcasts(&tensors)?);
        Ok(())
    }

    /// After all pieces: waits for them. The f32 values of other slices that are not read stay as old as they were.
    pub(crate) fn finish(self) -> Result<(), TorchError> {
        self.pending.into_iter().try_for_each(Pending::wait)?;
        // Own rows come back as they were; one operation for all is worth that.
        let _ = no_grad(|| {
            self.parameters.padded.f_view([-1, ALIGNMENT])?.f_index_copy_(0, &self.plan.rows, &self.packed)
        })?;
        self.parameters.reads.set_behind(true);
        self.copy.mark_fresh();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_of_every_slice_travels_once_and_what_is_read_in_f32_is_packed() {
        // Two slices of 16 rows: 3, 4 and 20 are read, and the two of 30 and 31.
        let read = [3 * 64..5 * 64, 20 * 64..21 * 64, 30 * 64..32 * 64];
        let plan = Plan::new((2, 16 * 64), &read, Device::Cpu).unwrap();
        let mut pieces = plan.pieces.clone();
        assert_eq!(pieces[..3], [4 * 64..6 * 64, 14 * 64..16 * 64, 2 * 64..4 * 64], "most first");
        assert_eq!(plan.counts[..4], [vec![1, 1], vec![0, 2], vec![1, 0], vec![0, 0]]);
        assert_eq!(Vec::<i64>::try_from(&plan.rows).unwrap(), [4, 20, 30, 31, 3]);
        pieces.sort_by_key(|piece| piece.start);
        assert!(pieces[0].start == 0 && pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(pieces.last().unwrap().end, 16 * 64);
        // A slice of fewer rows than pieces, and nothing that is read.
        let plan = Plan::new((3, 3 * 64), &[], Device::Cpu).unwrap();
        assert_eq!((plan.pieces.len(), plan.rows.size()), (3, vec![0]));
    }
}
