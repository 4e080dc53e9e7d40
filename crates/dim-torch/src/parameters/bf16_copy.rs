//! A bf16 copy of a flat buffer, never staler than it looks.

use std::cell::{Cell, OnceCell};

use tch::{Kind, Tensor, no_grad};

use super::{ParameterSpec, views};
use crate::TorchError;

/// A flat copy in bf16 and its parameters; memory is taken on the first use.
pub(super) struct Bf16Copy {
    values: Tensor,
    specs: Vec<ParameterSpec>,
    copy: OnceCell<(Tensor, Vec<Tensor>)>,
    /// libtorch's count of writes to the values when they were last copied. The flat buffer, its views and the leaves made
    /// from them share the count, so no write to any of them goes unseen.
    version: Cell<Option<i64>>,
}

impl Bf16Copy {
    /// A copy of `values`, which hold parameters of these specifications.
    pub(super) fn new(values: &Tensor, specs: &[ParameterSpec]) -> Self {
        Self { values: values.shallow_clone(), specs: specs.to_vec(), copy: OnceCell::new(), version: Cell::new(None) }
    }

    fn memory(&self) -> Result<&(Tensor, Vec<Tensor>), TorchError> {
        if let Some(memory) = self.copy.get() {
            return Ok(memory);
        }
        let flat = Tensor::f_empty(self.values.size(), (Kind::BFloat16, self.values.device()))?;
        let views = views(&flat, &self.specs)?;
        Ok(self.copy.get_or_init(|| (flat, views)))
    }

    /// The flat copy, to be written by whoever writes the values; [`Bf16Copy::mark_fresh`] comes next.
    pub(super) fn flat(&self) -> Result<&Tensor, TorchError> {
        Ok(&self.memory()?.0)
    }

    /// Says that the copy has just been written from the values.
    pub(super) fn mark_fresh(&self) {
        self.version.set(self.values.f_internal_version().ok());
    }

    /// A parameter of the copy, which is brought up to date first.
    pub(super) fn view(&self, position: usize) -> Result<Tensor, TorchError> {
        let (flat, views) = self.memory()?;
        let version = self.values.f_internal_version()?;
        if self.version.get() != Some(version) {
            no_grad(|| flat.shallow_clone().f_copy_(&self.values).map(drop))?;
            self.version.set(Some(version));
        }
        Ok(views[position].shallow_clone())
    }
}
