//! A bf16 copy of a flat buffer, never staler than it looks.

use std::cell::Cell;

use tch::{Kind, Tensor, no_grad};

use super::{ParameterSpec, views};
use crate::TorchError;

/// A flat copy in bf16 and its parameters.
pub(super) struct Bf16Copy {
    flat: Tensor,
    views: Vec<Tensor>,
    /// libtorch's count of writes to the values when they were last copied. The flat buffer, its views and the leaves made
    /// from them share the count, so no write to any of them goes unseen.
    version: Cell<Option<i64>>,
}

impl Bf16Copy {
    /// A copy that is filled on its first use.
    pub(super) fn new(values: &Tensor, specs: &[ParameterSpec]) -> Result<Self, TorchError> {
        let flat = Tensor::f_empty(values.size(), (Kind::BFloat16, values.device()))?;
        let views = views(&flat, specs)?;
        Ok(Self { flat, views, version: Cell::new(None) })
    }

    pub(super) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Says that the copy has just been written from `values`.
    pub(super) fn mark_fresh(&self, values: &Tensor) {
        self.version.set(values.f_internal_version().ok());
    }

    /// A parameter of the copy, which is brought up to date first.
    pub(super) fn view(&self, position: usize, values: &Tensor) -> Result<Tensor, TorchError> {
        let version = values.f_internal_version()?;
        if self.version.get() != Some(version) {
            no_grad(|| self.flat.shallow_clone().f_copy_(values).map(drop))?;
            self.version.set(Some(version));
        }
        Ok(self.views[position].shallow_clone())
    }
}
