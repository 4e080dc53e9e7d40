//! A part of a network that may run again in the backward pass instead of keeping what it computed. Where its parameters are there only while they
//! are held, it must: it holds them while it runs, and in the backward pass until its gradients are computed.

use std::sync::{Arc, Mutex, PoisonError};

use dim_torch::{HeldUnit, ParameterUnit, TorchError, checkpoint_holding};
use tch::Tensor;

/// The part. It is shared with the backward pass, which on a GPU has its own thread.
pub(crate) struct Segment<T> {
    part: Arc<Mutex<T>>,
    again: bool,
    unit: Option<ParameterUnit>,
}

impl<T: Send + 'static> Segment<T> {
    pub(crate) fn new(part: T) -> Self {
        Self { part: Arc::new(Mutex::new(part)), again: false, unit: None }
    }

    /// A part whose parameters belong to a unit, if they are sharded.
    pub(crate) fn of_unit(part: T, unit: Option<ParameterUnit>) -> Self {
        Self { unit, ..Self::new(part) }
    }

    /// Whether backward runs the part again.
    pub(crate) fn run_again(&mut self, again: bool) {
        self.again = again;
    }

    /// Looks at the part, or changes it.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // A poisoned lock only means that another thread panicked here; nothing changes a part while it runs.
        f(&mut self.part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `f` makes of the part and `inputs`, now and, if it runs again, in the backward pass.
    pub(crate) fn run(
        &self,
        inputs: &[&Tensor],
        f: impl Fn(&T, &[Tensor]) -> Result<Vec<Tensor>, TorchError> + Send + 'static,
    ) -> Result<Vec<Tensor>, TorchError> {
        let hold = |unit: &Option<ParameterUnit>| -> Result<Option<HeldUnit>, TorchError> {
            unit.as_ref().map(ParameterUnit::hold).transpose()
        };
        let again = self.again || self.unit.is_some();
        if !again || !inputs.iter().any(|input| input.requires_grad()) {
            let _held = hold(&self.unit)?;
            let inputs: Vec<Tensor> = inputs.iter().map(|input| input.shallow_clone()).collect();
            return self.with(|part| f(part, &inputs));
        }
        let part = Self { part: Arc::clone(&self.part), again: false, unit: None };
        let unit = self.unit.clone();
        checkpoint_holding(inputs, move || hold(&unit), move |inputs| part.with(|part| f(part, inputs)))
    }
}
