//! The new values of every process's slice, sent to all while its optimiser is still at the rest of it.
//! Source: the split is Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054).
//!
//! A network that computes in bf16 needs the slices of others in bf16, half the bytes, but for what it reads in f32: small, and spread over the
//! buffer, so it is packed.

use std::sync::Arc;

use tch::{Kind, Tensor, no_grad};

use super::{ALIGNMENT, Parameters, bf16_copy::Bf16Copy};
use crate::{
    TorchError,
    distributed::{Pending, World},
};

/// A step of all slices that is under way.
pub(crate) struct Gathering<'a> {
    world: &'a World,
    parameters: &'a Parameters,
    copy: Arc<Bf16Copy>,
    /// The copy of all parameters.
    flat: Tensor,
    /// Elements of a slice.
    part: i64,
    pending: Vec<Pending>,
}

impl Parameters {
    /// Begins to gather what the processes of `world` write of their slices in a step of the optimiser. `None` where that is not of use: there is no copy in
    /// bf16, or most is read in f32; then [`Parameters::share_parts`] comes after the step.
    pub(crate) fn begin_gathering<'a>(&'a self, world: &'a World) -> Result<Option<Gathering<'a>>, TorchError> {
        let Some(copy) = self.bf16.as_ref().filter(|_| 2 * self.reads.elements() < self.length()) else {
            return Ok(None);
        };
        let (copy, flat) = (Arc::clone(copy), copy.flat()?);
        let part = flat.size()[0] / world.size() as i64;
        Ok(Some(Gathering { world, parameters: self, copy, flat, part, pending: Vec::new() }))
    }
}

impl Gathering<'_> {
    /// The bf16 copy of this process's slice, to be written along with it.
    pub(crate) fn own_copy(&self) -> Result<Tensor, TorchError> {
        Ok(self.flat.f_narrow(0, self.part * self.world.rank() as i64, self.part)?)
    }

    /// Every process has written `length` elements of its slice's copy, from number `first` on.
    pub(crate) fn send(&mut self, first: i64, length: i64) -> Result<(), TorchError> {
        let pieces =
            (0..self.world.size()).map(|owner| self.flat.f_narrow(0, self.part * owner as i64 + first, length));
        self.pending.extend(self.world.broadcast_each(&pieces.collect::<Result<Vec<_>, _>>()?)?);
        Ok(())
    }

    /// Every process has written and sent all: sends what is read in f32, and waits. The f32 values of other slices that are not read are as old as they were.
    pub(crate) fn finish(mut self) -> Result<(), TorchError> {
        let (values, rank) = (&self.parameters.padded, self.world.rank());
        let rows = values.f_view([-1, ALIGNMENT])?;
        let numbers = self.parameters.reads.rows(self.world.size() as i64, self.part, values.device())?;
        let packed = numbers.iter().enumerate().map(|(owner, numbers)| match owner == rank {
            true => rows.f_index_select(0, numbers),
            false => Tensor::f_empty([numbers.size()[0], ALIGNMENT], (Kind::Float, values.device())),
        });
        let packed = packed.collect::<Result<Vec<_>, _>>()?;
        self.pending.extend(self.world.broadcast_each(&packed)?);
        self.pending.into_iter().try_for_each(Pending::wait)?;
        for (_, (numbers, packed)) in numbers.iter().zip(&packed).enumerate().filter(|(owner, _)| *owner != rank) {
            no_grad(|| rows.shallow_clone().f_index_copy_(0, numbers, packed))?;
        }
        self.parameters.reads.set_behind(true);
        self.copy.mark_fresh();
        Ok(())
    }
}
