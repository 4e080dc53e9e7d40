//! What is computed from parameters, and again only when they have been written.

use std::sync::{Mutex, PoisonError};

use tch::{Tensor, no_grad};

use crate::TorchError;

/// A tensor that is a function of parameters, without gradient, and never staler than it looks.
pub struct Derived {
    sources: Vec<Tensor>,
    make: fn(&[Tensor]) -> Result<Tensor, TorchError>,
    // Autograd's own thread reads it, too, when it runs a part of the network again.
    last: Mutex<Option<(Vec<i64>, Tensor)>>,
}

impl Derived {
    /// What `make` makes of `sources`, which share their memory with the parameters.
    #[must_use]
    pub fn new(sources: &[&Tensor], make: fn(&[Tensor]) -> Result<Tensor, TorchError>) -> Self {
        Self { sources: sources.iter().map(|source| source.detach()).collect(), make, last: Mutex::new(None) }
    }

    /// The tensor for the parameters as they are now: libtorch's counts of in-place writes tell whether it must be made again.
    ///
    /// # Errors
    /// What `make` returns.
    pub fn get(&self) -> Result<Tensor, TorchError> {
        // A poisoned lock only means that another thread panicked here; what it left is old or whole.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = self.sources.iter().map(Tensor::f_internal_version).collect::<Result<Vec<_>, _>>()?;
        if let Some((_, tensor)) = last.as_ref().filter(|(known, _)| *known == versions) {
            return Ok(tensor.shallow_clone());
        }
        let tensor = no_grad(|| (self.make)(&self.sources))?;
        *last = Some((versions, tensor.shallow_clone()));
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn it_is_made_again_when_and_only_when_a_source_was_written() {
        let source = Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let derived = Derived::new(&[&source], |sources| Ok(&sources[0] * 2.0));
        let (first, second) = (derived.get().unwrap(), derived.get().unwrap());
        assert_eq!(first.data_ptr(), second.data_ptr());
        assert!(!first.requires_grad());
        let _ = no_grad(|| source.shallow_clone().fill_(5.0));
        assert_eq!(derived.get().unwrap().double_value(&[1]), 10.0);
        // A view of the same memory counts as the source itself.
        let _ = source.detach().narrow(0, 1, 1).fill_(7.0);
        assert_eq!(derived.get().unwrap().double_value(&[1]), 14.0);
    }
}
