//! A part of a network that may run again in the backward pass instead of keeping what it computed.

use std::sync::{Arc, Mutex, PoisonError};

use dim_torch::{TorchError, checkpoint};
use tch::Tensor;

/// The part. It is shared with the backward pass, which on a GPU has its own thread.
pub(crate) struct Segment<T> {
    part: Arc<Mutex<T>>,
    again: bool,
}

impl<T: Send + 'static> Segment<T> {
    pub(crate) fn new(part: T) -> Self {
        Self { part: Arc::new(Mutex::new(part)), again: false }
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
        if !self.again || !inputs.iter().any(|input| input.requires_grad()) {
            let inputs: Vec<Tensor> = inputs.iter().map(|input| input.shallow_clone()).collect();
            return self.with(|part| f(part, &inputs));
        }
        let part = Self { part: Arc::clone(&self.part), again: false };
        checkpoint(inputs, move |inputs| part.with(|part| f(part, inputs)))
    }
}
