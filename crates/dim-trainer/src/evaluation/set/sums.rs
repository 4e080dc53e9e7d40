//! Mean and covariance of features.

use dim_eval::{Gaussian, Statistics};
use tch::Tensor;

use crate::error::TrainerError;

/// Mean and covariance, with the sums they come from where they are known.
pub(super) enum Sums {
    Known(Statistics),
    /// Of files of other programs.
    Gaussian(Gaussian),
}

impl Sums {
    pub(super) fn gaussian(&self) -> Result<Gaussian, TrainerError> {
        Ok(match self {
            Self::Known(statistics) => statistics.gaussian()?,
            Self::Gaussian(gaussian) => Gaussian::new(gaussian.mean().copy(), gaussian.covariance().copy())?,
        })
    }

    pub(super) fn add(&mut self, features: &Tensor) -> Result<(), TrainerError> {
        match self {
            Self::Known(statistics) => Ok(statistics.add(features)?),
            Self::Gaussian(_) => Err(TrainerError::Unsupported("statistics of unknown images cannot grow".to_owned())),
        }
    }

    pub(super) fn is_constant(&self) -> Result<bool, TrainerError> {
        match self {
            Self::Known(statistics) => Ok(statistics.is_constant()?),
            Self::Gaussian(gaussian) => Ok(gaussian.covariance().f_trace()?.double_value(&[]) <= 0.0),
        }
    }
}
