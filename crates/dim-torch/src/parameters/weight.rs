//! One parameter as a network computes with it.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::bf16_copy::Bf16Copy;
use crate::{TorchError, ops::Projection};

/// A parameter, and its copy in bf16 where the network computes in that.
pub struct Weight {
    pub(super) leaf: Tensor,
    /// Its part of the flat buffer of gradients.
    pub(super) gradient: Option<Tensor>,
    /// The copy, and the parameter's number in it.
    pub(super) bf16: Option<(Arc<Bf16Copy>, usize)>,
}

impl Weight {
    /// The parameter itself, f32, which gets the gradient.
    pub fn leaf(&self) -> &Tensor {
        &self.leaf
    }

    /// The weight as operations take it, `computed` being its numbers in the kind that they compute in: they add its gradients where
    /// [`Parameters::gradients`](super::Parameters::gradients) sums them up, if it does.
    pub fn projection<'a>(&'a self, computed: &'a Tensor) -> Projection<'a> {
        Projection { weight: &self.leaf, computed, sum: self.gradient.as_ref() }
    }

    /// The numbers in `kind`, without gradient: from the parameters' bf16 copy if they have one, else converted here.
    ///
    /// # Errors
    /// No memory, or an error of libtorch; [`TorchError::Behind`].
    pub fn computed(&self, kind: Kind) -> Result<Tensor, TorchError> {
        match &self.bf16 {
            Some((copy, position)) if kind == Kind::BFloat16 => return copy.view(*position),
            Some((copy, position)) => copy.passed_over(*position)?,
            None => {}
        }
        Ok(self.leaf.detach().f_to_kind(kind)?)
    }
}
