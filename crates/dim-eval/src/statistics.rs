//! Mean and covariance of features, batch by batch.
//!
//! Chan, Golub and LeVeque's formula for two parts of a sample (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
//! 1979): sums of squares about each part's own mean, so that no large numbers cancel, in f64. Parts may be computed apart and merged.
//! Memory does not depend on the number of images.

use tch::{Device, Kind, Tensor};

use crate::{EvalError, frechet::Gaussian};

/// Variance, over the squared length of the mean, that rounding alone makes of features that are all the same.
const NO_SPREAD: f64 = 1e-10;

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
    /// Of no image yet, on the CPU.
    ///
    /// # Errors
    /// No memory.
    pub fn new(dimension: usize) -> Result<Self, EvalError> {
        Self::on(dimension, Device::Cpu)
    }

    /// Of no image yet, on the device where the features are computed: the products of thousands of features take the CPU longer
    /// than the network takes a GPU.
    ///
    /// # Errors
    /// No memory.
    pub fn on(dimension: usize, device: Device) -> Result<Self, EvalError> {
        let (d, on) = (dimension as i64, (Kind::Double, device));
        Ok(Self { count: 0, mean: Tensor::f_zeros([d], on)?, scatter: Tensor::f_zeros([d, d], on)? })
    }

    /// Those of a set of `count` images whose mean and covariance are known, so that more can be added.
    ///
    /// # Errors
    /// [`EvalError::TooFewImages`] for less than two; no memory.
    pub fn of(gaussian: &Gaussian, count: u64) -> Result<Self, EvalError> {
        if count < 2 {
            return Err(EvalError::TooFewImages { quantity: "a covariance", needed: 2, got: count });
        }
        let scatter = gaussian.covariance().f_mul_scalar((count - 1) as f64)?;
        Self::from_sums(count, gaussian.mean().copy(), scatter)
    }

    /// Those that [`sums`](Self::sums) gave, on the device where the tensors are.
    ///
    /// # Errors
    /// [`EvalError::Dimension`].
    pub fn from_sums(count: u64, mean: Tensor, scatter: Tensor) -> Result<Self, EvalError> {
        let d = mean.numel();
        if mean.dim() != 1 || scatter.size() != [d as i64, d as i64] {
            let got = format!("shape {:?} for a mean of shape {:?}", scatter.size(), mean.size());
            return Err(EvalError::Dimension { what: "the sum of products", expected: d, got });
        }
        Ok(Self { count, mean: mean.f_to_kind(Kind::Double)?, scatter: scatter.f_to_kind(Kind::Double)? })
    }

    /// All that is known, to be stored: the mean `[feature]`, and the sum over the images of the products of deviations from it
    /// `[feature, feature]`; both f64.
    pub fn sums(&self) -> [&Tensor; 2] {
        [&self.mean, &self.scatter]
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
        let x = features.detach().f_to_device(self.mean.device())?.f_to_kind(Kind::Double)?;
        refuse_what_is_no_number(&x, self.count)?;
        let mean = x.f_mean_dim(&[0_i64][..], false, Kind::Double)?;
        let centred = x.f_sub(&mean)?;
        let _ = self.scatter.f_addmm_(&centred.f_transpose(0, 1)?, &centred)?;
        self.shift(size[0].unsigned_abs(), &mean)
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
        let device = self.mean.device();
        let _ = self.scatter.f_add_(&other.scatter.f_to_device(device)?)?;
        self.shift(other.count, &other.mean.f_to_device(device)?)
    }

    /// Moves the mean for `count` more images of the mean `mean`, whose scatter about it has been added already.
    fn shift(&mut self, more: u64, mean: &Tensor) -> Result<(), EvalError> {
        let count = self.count + more;
        let share = more as f64 / count as f64;
        let apart = mean.f_sub(&self.mean)?;
        let between = apart.f_mul_scalar(self.count as f64 * share)?;
        let _ = self.scatter.f_addr_(&between, &apart)?;
        let _ = self.mean.f_add_(&apart.f_mul_scalar(share)?)?;
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

    /// Whether all images look the same to the network, but for rounding: no distance says anything of such a set.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn is_constant(&self) -> Result<bool, EvalError> {
        let spread = self.scatter.f_trace()?.double_value(&[]) / self.count.max(1) as f64;
        let length = self.mean.f_square()?.f_sum(Kind::Double)?.double_value(&[]);
        Ok(self.count > 1 && spread <= NO_SPREAD * length)
    }
}

/// Refuses features `[image, feature]` that are no numbers; the first image is number `first` of its set.
pub(crate) fn refuse_what_is_no_number(x: &Tensor, first: u64) -> Result<(), EvalError> {
    let wrong = x.f_isfinite()?.f_logical_not()?;
    if wrong.f_any()?.int64_value(&[]) == 0 {
        return Ok(());
    }
    let place = wrong.f_nonzero()?.f_get(0)?;
    let [row, feature] = [0, 1].map(|index| place.int64_value(&[index]).unsigned_abs());
    Err(EvalError::NotFinite { image: first + row, feature })
}
