//! A bf16 copy of a flat buffer, never staler than it looks.

use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, Tensor, no_grad};

use super::{
    f32_reads::F32Reads,
    layout::{ParameterSpec, views},
};
use crate::TorchError;

/// A flat copy in bf16 and its parameters; memory is taken on the first use.
pub(super) struct Bf16Copy {
    // Autograd's own thread reads it, too, when it runs a part of the network again.
    state: Mutex<State>,
    reads: Arc<F32Reads>,
}

struct State {
    values: Tensor,
    specs: Vec<ParameterSpec>,
    copy: Option<(Tensor, Vec<Tensor>)>,
    /// libtorch's count of writes to the values when they were last copied. The flat buffer, its views and the leaves made
    /// from them share the count, so no write to any of them goes unseen.
    version: Option<i64>,
}

impl Bf16Copy {
    /// A copy of `values`, which hold parameters of these specifications.
    pub(super) fn new(values: &Tensor, specs: &[ParameterSpec], reads: &Arc<F32Reads>) -> Self {
        let (values, specs) = (values.shallow_clone(), specs.to_vec());
        let state = Mutex::new(State { values, specs, copy: None, version: None });
        Self { state, reads: Arc::clone(reads) }
    }

    fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        // A poisoned lock only means that another thread panicked here; a copy that it left is stale by its version.
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The flat copy, to be written by whoever writes the values; [`Bf16Copy::mark_fresh`] comes next.
    pub(super) fn flat(&self) -> Result<Tensor, TorchError> {
        self.with_state(|state| Ok(state.memory()?.0.shallow_clone()))
    }

    /// Says that the copy has just been written from the values.
    pub(super) fn mark_fresh(&self) {
        self.with_state(|state| state.version = state.values.f_internal_version().ok());
    }

    /// Parameter number `position` is read in f32 although it has a copy here.
    pub(super) fn passed_over(&self, position: usize) -> Result<(), TorchError> {
        self.reads.mark(position)
    }

    /// A parameter of the copy, which is brought up to date first.
    pub(super) fn view(&self, position: usize) -> Result<Tensor, TorchError> {
        self.with_state(|state| {
            let version = state.values.f_internal_version()?;
            let stale = state.version != Some(version);
            if stale && self.reads.behind() {
                return Err(TorchError::Behind(state.specs[position].name.clone()));
            }
            let values = state.values.shallow_clone();
            let (flat, views) = state.memory()?;
            let view = views[position].shallow_clone();
            if stale {
                no_grad(|| flat.f_copy_(&values).map(drop))?;
                state.version = Some(version);
            }
            Ok(view)
        })
    }
}

impl State {
    fn memory(&mut self) -> Result<&mut (Tensor, Vec<Tensor>), TorchError> {
        let copy = match self.copy.take() {
            Some(copy) => copy,
            None => {
                let flat = Tensor::f_empty(self.values.size(), (Kind::BFloat16, self.values.device()))?;
                let views = views(&flat, &self.specs)?;
                (flat, views)
            }
        };
        Ok(self.copy.insert(copy))
    }
}
