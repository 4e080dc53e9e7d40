//! Which parameters a network reads in f32 although there is a copy of all in bf16, and whether the others' f32 values may be old.
//!
//! Where each process steps a slice of the parameters, it needs the new values of the other slices in what it computes with alone.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    gathering::Plan,
    layout::{ParameterSpec, aligned, offsets},
};
use crate::TorchError;

pub(super) struct F32Reads {
    state: Mutex<State>,
}

struct State {
    parameters: Vec<Parameter>,
    behind: bool,
    /// What [`F32Reads::plan`] returned last, and for what split.
    plan: Option<((usize, i64), Plan)>,
}

struct Parameter {
    name: String,
    /// Its elements in the flat buffer, up to where the next may begin.
    elements: Range<i64>,
    read: bool,
}

impl F32Reads {
    pub(super) fn new(specs: &[ParameterSpec]) -> Self {
        let of = |(spec, start): (&ParameterSpec, i64)| Parameter {
            name: spec.name.clone(),
            elements: start..start + aligned(spec.elements()),
            read: false,
        };
        let parameters = specs.iter().zip(offsets(specs)).map(of).collect();
        Self { state: Mutex::new(State { parameters, behind: false, plan: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only means that another thread panicked here; what it left is old or whole.
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
        state.plan = None;
        Ok(())
    }

    /// Elements of the parameters that are read in f32.
    pub(super) fn elements(&self) -> i64 {
        self.state().read().map(|elements| elements.end - elements.start).sum()
    }

    /// Whether the values of others were written elsewhere since all were sent.
    pub(super) fn behind(&self) -> bool {
        self.state().behind
    }

    pub(super) fn set_behind(&self, behind: bool) {
        self.state().behind = behind;
    }

    /// How `owners` processes gather slices of `slice` elements: made by `make` from the elements that are read, in order, when these are others than the last time.
    pub(super) fn plan(
        &self,
        (owners, slice): (usize, i64),
        make: impl FnOnce(&[Range<i64>]) -> Result<Plan, TorchError>,
    ) -> Result<Plan, TorchError> {
        let mut state = self.state();
        if let Some((_, plan)) = state.plan.as_ref().filter(|(split, _)| *split == (owners, slice)) {
            return Ok(plan.shallow_clone());
        }
        let mut read: Vec<_> = state.read().cloned().collect();
        read.sort_by_key(|elements| elements.start);
        let plan = make(&read)?;
        state.plan = Some(((owners, slice), plan.shallow_clone()));
        Ok(plan)
    }
}

impl State {
    fn read(&self) -> impl Iterator<Item = &Range<i64>> {
        self.parameters.iter().filter(|parameter| parameter.read).map(|parameter| &parameter.elements)
    }
}
