//! Which parameters a network reads in f32 although there is a copy of all in bf16, and whether the others' f32 values may be old.
//!
//! Where each process steps a slice of the parameters, it needs the new values of the other slices in what it computes with alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::{Device, Tensor};

use super::{ALIGNMENT, ParameterSpec, aligned, offsets};
use crate::TorchError;

pub(super) struct F32Reads {
    state: Mutex<State>,
}

struct State {
    parameters: Vec<Parameter>,
    behind: bool,
    /// What [`F32Reads::rows`] returned last.
    rows: Option<Vec<Tensor>>,
}

struct Parameter {
    name: String,
    start: i64,
    length: i64,
    read: bool,
}

impl F32Reads {
    pub(super) fn new(specs: &[ParameterSpec]) -> Self {
        let of = |(spec, start): (&ParameterSpec, i64)| Parameter {
            name: spec.name.clone(),
            start,
            length: aligned(spec.elements()),
            read: false,
        };
        let parameters = specs.iter().zip(offsets(specs)).map(of).collect();
        Self { state: Mutex::new(State { parameters, behind: false, rows: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only means that another thread panicked here; every write below is a single one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parameter number `position` is read in f32, now and later.
    ///
    /// # Errors
    /// [`TorchError::Behind`].
    pub(super) fn mark(&self, position: usize) -> Result<(), TorchError> {
        let mut state = self.state();
        let behind = state.behind;
        let parameter = &mut state.parameters[position];
        if parameter.read {
            return Ok(());
        }
        if behind {
            return Err(TorchError::Behind(parameter.name.clone()));
        }
        parameter.read = true;
        state.rows = None;
        Ok(())
    }

    /// Elements of the parameters that are read in f32.
    pub(super) fn elements(&self) -> i64 {
        self.state().parameters.iter().filter(|parameter| parameter.read).map(|parameter| parameter.length).sum()
    }

    /// Whether the values of the others were written elsewhere since all were sent.
    pub(super) fn behind(&self) -> bool {
        self.state().behind
    }

    pub(super) fn set_behind(&self, behind: bool) {
        self.state().behind = behind;
    }

    /// Those parts of each of `parts` equal parts of the flat buffer that are read in f32, in rows of [`ALIGNMENT`] elements: the numbers of
    /// the rows, i64, on `device`.
    pub(super) fn rows(&self, parts: i64, part: i64, device: Device) -> Result<Vec<Tensor>, TorchError> {
        let mut state = self.state();
        if let Some(rows) = state.rows.as_ref().filter(|rows| rows.len() as i64 == parts) {
            return Ok(rows.iter().map(Tensor::shallow_clone).collect());
        }
        let numbers = |index: i64| {
            let (first, end) = (part * index, part * (index + 1));
            let read = state.parameters.iter().filter(|parameter| parameter.read);
            let range = read.map(|read| read.start.max(first)..(read.start + read.length).min(end));
            range.flat_map(|range| range.start / ALIGNMENT..range.end / ALIGNMENT).collect::<Vec<i64>>()
        };
        let rows = (0..parts)
            .map(|index| Ok(Tensor::f_from_slice(&numbers(index))?.f_to_device(device)?))
            .collect::<Result<Vec<Tensor>, TorchError>>()?;
        state.rows = Some(rows.iter().map(Tensor::shallow_clone).collect());
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_are_those_of_what_is_read_by_whose_part_they_are() {
        let specs = [
            ParameterSpec::new("a", &[100]),                     // rows 0 and 1
            ParameterSpec::new("b", &[64]).with_late_gradient(), // behind the others: row 5
            ParameterSpec::new("c", &[3, 64]),                   // rows 2, 3, 4
        ];
        let reads = F32Reads::new(&specs);
        let rows = |parts, part| {
            let rows = reads.rows(parts, part, Device::Cpu).unwrap();
            rows.iter().map(|rows| Vec::<i64>::try_from(rows).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((reads.elements(), rows(2, 192)), (0, vec![vec![], vec![]]));
        reads.mark(2).unwrap();
        assert_eq!((reads.elements(), rows(2, 192)), (192, vec![vec![2], vec![3, 4]]));
        reads.set_behind(true);
        reads.mark(2).unwrap();
        let error = reads.mark(1).unwrap_err().to_string();
        assert!(error.contains("`b`"), "{error}");
        reads.set_behind(false);
        reads.mark(1).unwrap();
        assert_eq!((reads.elements(), rows(3, 128)), (256, vec![vec![], vec![2, 3], vec![5, 4]]));
    }
}
