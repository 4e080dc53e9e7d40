//! Mean and covariance of features, batch by batch.
//!
//! Chan, Golub and LeVeque's formula for two parts of a sample (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
//! 1979): sums of squares about each part's own mean, so that no large numbers cancel, in f64 on the CPU. Parts may be computed apart and
//! merged.

use tch::{Device, Kind, Tensor};

use crate::{EvalError, frechet::Gaussian};

/// Mean and covariance of all features added so far.
#[derive(Debug)]
pub struct Statistics {
    count: u64,
    /// `[feature]`
    mean: Tensor,
    /// Sum of the products of deviations from the mean, `[feature, feature]`.
    scatter: Tensor,
}

impl Statistics {
    /// Of no image yet.
    ///
    /// # Errors
    /// No memory.
    pub fn new(dimension: usize) -> Result<Self, EvalError> {
        let (d, on) = (dimension as i64, (Kind::Double, Device::Cpu));
        Ok(Self { count: 0, mean: Tensor::f_zeros([d], on)?, scatter: Tensor::f_zeros([d, d], on)? })
    }

    /// Number of images.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Number of features.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.mean.numel()
    }

    /// Takes in the features of more images, `[image, feature]`, of any float type on any device.
    ///
    /// # Errors
    /// [`EvalError::Dimension`]; [`EvalError::NotFinite`], and nothing is taken in.
    pub fn add(&mut self, features: &Tensor) -> Result<(), EvalError> {
        let size = features.size();
        if size.len() != 2 || size[1] != self.mean.numel() as i64 {
            let got = format!("a tensor of shape {size:?}");
            return Err(EvalError::Dimension { what: "features", expected: self.dimension(), got });
        }
        if size[0] == 0 {
            return Ok(());
        }
        let x = features.detach().f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        self.refuse_what_is_no_number(&x)?;
        let mean = x.f_mean_dim(&[0_i64][..], false, Kind::Double)?;
        let centred = x.f_sub(&mean)?;
        let scatter = centred.f_transpose(0, 1)?.f_matmul(&centred)?;
        self.merge(&Self { count: size[0].unsigned_abs(), mean, scatter })
    }

    /// Takes in all that `other` has seen, as if it had been added here.
    ///
    /// # Errors
    /// [`EvalError::Dimension`].
    pub fn merge(&mut self, other: &Self) -> Result<(), EvalError> {
        if other.dimension() != self.dimension() {
            let got = other.dimension().to_string();
            return Err(EvalError::Dimension { what: "the other statistics", expected: self.dimension(), got });
        }
        if other.count == 0 {
            return Ok(());
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let apart = other.mean.f_sub(&self.mean)?;
        let between = apart.f_outer(&apart)?.f_mul_scalar(self.count as f64 * share)?;
        self.scatter = self.scatter.f_add(&other.scatter)?.f_add(&between)?;
        self.mean = self.mean.f_add(&apart.f_mul_scalar(share)?)?;
        self.count = count;
        Ok(())
    }

    /// Mean, and covariance over N - 1.
    ///
    /// # Errors
    /// [`EvalError::TooFewImages`] for less than two.
    pub fn gaussian(&self) -> Result<Gaussian, EvalError> {
        if self.count < 2 {
            return Err(EvalError::TooFewImages { quantity: "a covariance", needed: 2, got: self.count });
        }
        let covariance = self.scatter.f_div_scalar((self.count - 1) as f64)?;
        Gaussian::new(self.mean.f_add_scalar(0.0)?, covariance)
    }

    /// Whether the images are too few for a covariance of full rank: distances are then biased upwards by much.
    #[must_use]
    pub fn is_rank_deficient(&self) -> bool {
        self.count <= self.dimension() as u64
    }

    fn refuse_what_is_no_number(&self, x: &Tensor) -> Result<(), EvalError> {
        let wrong = x.f_isfinite()?.f_logical_not()?;
        if wrong.f_any()?.int64_value(&[]) == 0 {
            return Ok(());
        }
        let first = wrong.f_nonzero()?.f_get(0)?;
        let [row, feature] = [0, 1].map(|index| first.int64_value(&[index]).unsigned_abs());
        Err(EvalError::NotFinite { image: self.count + row, feature })
    }
}
