//! Parameters of which each process keeps a slice alone. Source: Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054), its third stage.
//!
//! The flat buffer exists in slices, one a process. What belongs to a unit, such as a block, has memory only as long as somebody holds the unit: then
//! its owners send it to all. Parameters of no unit are always there, and are sent again when the slices were written.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor, no_grad};

use super::layout::{ParameterSpec, aligned, offsets, slice};
use crate::{TorchError, distributed::World, ffi};

/// The slices, and what is there of the others'.
pub(super) struct Sharded {
    world: World,
    /// This process's part of the flat buffer.
    slice: Tensor,
    start: i64,
    pieces: Vec<Piece>,
    /// The beginnings of the names of each unit's parameters.
    units: Vec<String>,
    /// How many hold each unit.
    holders: Vec<usize>,
}

/// Neighbouring parameters of one unit, or of none.
struct Piece {
    unit: Option<usize>,
    range: Range<i64>,
    /// As long as the range. That of a unit that nobody holds has no memory.
    buffer: Tensor,
}

/// Which unit a parameter belongs to: the one whose prefix says most. What is late belongs to none: all blocks' are used at once.
fn unit_of(spec: &ParameterSpec, units: &[String]) -> Option<usize> {
    let fitting = units.iter().enumerate().filter(|(_, prefix)| !spec.late && spec.name.starts_with(prefix.as_str()));
    fitting.max_by_key(|(_, prefix)| prefix.len()).map(|(unit, _)| unit)
}

impl Sharded {
    /// All zero; returns also a view of every parameter.
    pub(super) fn zeros(
        specs: &[ParameterSpec],
        device: Device,
        world: &World,
        length: i64,
        units: &[String],
    ) -> Result<(Self, Vec<Tensor>), TorchError> {
        let part = length / world.size() as i64;
        let f32 = (Kind::Float, device);
        let offsets = offsets(specs);
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|&index| offsets[index]);
        let mut found: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        for index in order {
            let unit = unit_of(&specs[index], units);
            match found.last_mut() {
                Some((last, members)) if *last == unit => members.push(index),
                _ => found.push((unit, vec![index])),
            }
        }
        let mut views: Vec<Tensor> = specs.iter().map(|_| Tensor::new()).collect();
        let mut pieces = Vec::new();
        for (unit, members) in found {
            let elements: i64 = members.iter().map(|&index| aligned(specs[index].elements())).sum();
            let start = offsets[members[0]];
            let buffer = Tensor::f_zeros([elements], f32)?;
            for index in members {
                views[index] = slice(&buffer, offsets[index] - start, &specs[index])?;
            }
            // After each: all units together may be more than there is memory for.
            if unit.is_some() {
                set_memory(&buffer, false)?;
            }
            pieces.push(Piece { unit, range: start..start + elements, buffer });
        }
        let (slice, start) = (Tensor::f_zeros([part], f32)?, part * world.rank() as i64);
        let (units, holders) = (units.to_vec(), vec![0; units.len()]);
        Ok((Self { world: world.clone(), slice, start, pieces, units, holders }, views))
    }

    /// This process's slice.
    pub(super) fn slice(&self) -> Tensor {
        self.slice.shallow_clone()
    }

    /// Elements of all slices.
    pub(super) fn length(&self) -> i64 {
        self.slice.size()[0] * self.world.size() as i64
    }

    /// Bytes that parameters have on this process now.
    pub(super) fn bytes(&self) -> Result<i64, TorchError> {
        std::iter::once(&self.slice).chain(self.pieces.iter().map(|piece| &piece.buffer)).map(bytes).sum()
    }

    /// Lets all processes have what belongs to a unit, or to none.
    pub(super) fn gather(&self, unit: Option<usize>) -> Result<(), TorchError> {
        let part = self.slice.size()[0];
        let mut pending = Vec::new();
        let pieces = || self.pieces.iter().filter(|piece| piece.unit == unit);
        for Piece { range, buffer, .. } in pieces() {
            for owner in 0..self.world.size() {
                let first = part * owner as i64;
                let shared = range.start.max(first)..range.end.min(first + part);
                if shared.is_empty() {
                    continue;
                }
                let place = buffer.f_narrow(0, shared.start - range.start, shared.end - shared.start)?;
                if owner == self.world.rank() {
                    let own = self.slice.f_narrow(0, shared.start - self.start, shared.end - shared.start)?;
                    no_grad(|| place.shallow_clone().f_copy_(&own))?;
                }
                pending.push(self.world.broadcast(&place, owner)?);
            }
        }
        pending.into_iter().try_for_each(crate::distributed::Pending::wait)?;
        // libtorch does not count what others wrote.
        // SAFETY: the handles are alive.
        pieces().try_for_each(|piece| ffi::check(unsafe { ffi::dim_bump_version(piece.buffer.as_ptr()) }))
    }

    /// Gives a unit's parameters memory, or takes it.
    fn set_memory(&self, unit: usize, present: bool) -> Result<(), TorchError> {
        let pieces = self.pieces.iter().filter(|piece| piece.unit == Some(unit));
        pieces.into_iter().try_for_each(|piece| set_memory(&piece.buffer, present))
    }
}

/// Gives a tensor's storage its memory, uninitialised, or takes it.
fn set_memory(tensor: &Tensor, present: bool) -> Result<(), TorchError> {
    let bytes = if present { tensor.numel() * size_of::<f32>() } else { 0 };
    // SAFETY: the handle is alive, and the storage belongs to this module, which lets nobody use it without memory.
    ffi::check(unsafe { ffi::dim_set_storage_bytes(tensor.as_ptr(), bytes) })
}

/// Bytes of a tensor's storage.
fn bytes(tensor: &Tensor) -> Result<i64, TorchError> {
    let mut bytes = 0;
    // SAFETY: the handle is alive; the callee writes one number or returns a message.
    ffi::check(unsafe { ffi::dim_storage_bytes(tensor.as_ptr(), &raw mut bytes) })?;
    Ok(bytes)
}

/// Parameters that are there only while they are held, such as a block's.
#[derive(Clone)]
pub struct ParameterUnit {
    shared: Arc<Mutex<Sharded>>,
    unit: usize,
}

/// Somebody who holds a unit.
pub struct HeldUnit {
    shared: Arc<Mutex<Sharded>>,
    unit: usize,
}

impl ParameterUnit {
    /// The unit called so, if there is one.
    pub(super) fn named(shared: &Arc<Mutex<Sharded>>, name: &str) -> Option<Self> {
        let unit = lock(shared).units.iter().position(|unit| unit == name)?;
        Some(Self { shared: Arc::clone(shared), unit })
    }

    /// Holds the unit, whose parameters all processes have until the result is dropped; they do this together.
    ///
    /// # Errors
    /// No memory; [`TorchError::LostPeer`].
    pub fn hold(&self) -> Result<HeldUnit, TorchError> {
        let mut sharded = lock(&self.shared);
        if sharded.holders[self.unit] == 0 {
            sharded.set_memory(self.unit, true)?;
            sharded.gather(Some(self.unit))?;
        }
        sharded.holders[self.unit] += 1;
        Ok(HeldUnit { shared: Arc::clone(&self.shared), unit: self.unit })
    }
}

impl Drop for HeldUnit {
    fn drop(&mut self) {
        let mut sharded = lock(&self.shared);
        sharded.holders[self.unit] -= 1;
        if sharded.holders[self.unit] == 0 {
            let _ = sharded.set_memory(self.unit, false); // nothing in it can fail but the allocation
        }
    }
}

/// A thread that panicked while it held the lock has ended the run.
pub(super) fn lock(shared: &Mutex<Sharded>) -> MutexGuard<'_, Sharded> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
