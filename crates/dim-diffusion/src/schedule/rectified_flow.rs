//! Straight paths from image to noise: rectified flow.
//!
//! Liu et al., "Flow Straight and Fast", arXiv 2209.03003, equation 1. Time shift: Esser et al. (Stable Diffusion 3), arXiv 2403.03206,
//! section 5.3.2.

use tch::{Kind, Tensor};

use super::{NoiseSchedule, TrainingTimes};
use crate::DiffusionError;

/// The schedule `sigma(t) = m t / (1 + (m − 1) t)`, `alpha(t) = 1 − sigma(t)`, where `m` is the time shift.
///
/// With `m = 1` sigma is `t` itself. Larger images need more noise to be hidden as well: images of `k` times the side are to be shifted
/// by `k` times as much. The shift moves the times of training and of every sampler alike. The network is told `1000 sigma`, so
/// a network trained with one shift can be sampled with another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RectifiedFlow {
    shift: f64,
}

/// What the network is told at the noisy end.
const TIME_SCALE: f64 = 1000.0;
/// The share of the image with which samplers start that need some signal; that of Stable Diffusion's schedule is 0.068.
const LEAST_SIGNAL: f64 = 1e-3;

impl RectifiedFlow {
    /// The schedule with a time shift.
    ///
    /// # Errors
    /// If the shift is not a positive number.
    pub fn new(time_shift: f64) -> Result<Self, DiffusionError> {
        if !(time_shift > 0.0 && time_shift.is_finite()) {
            return Err(DiffusionError::option("time_shift", "a positive number", time_shift));
        }
        Ok(Self { shift: time_shift })
    }

    /// The time at which the noise has the share `sigma`.
    fn time_at_sigma(&self, sigma: &Tensor) -> Tensor {
        sigma / (sigma * (1.0 - self.shift) + self.shift)
    }

    /// `d sigma / dt`.
    fn sigma_rate(&self, t: &Tensor) -> Tensor {
        (t * (self.shift - 1.0) + 1.0).square().reciprocal() * self.shift
    }
}

impl NoiseSchedule for RectifiedFlow {
    fn sigma(&self, t: &Tensor) -> Tensor {
        t * self.shift / (t * (self.shift - 1.0) + 1.0)
    }

    fn alpha(&self, t: &Tensor) -> Tensor {
        1f64 - self.sigma(t)
    }

    fn log_alpha(&self, t: &Tensor) -> Tensor {
        (-self.sigma(t)).log1p()
    }

    fn alpha_bar(&self, t: &Tensor) -> Tensor {
        self.alpha(t).square()
    }

    fn noise_to_signal(&self, t: &Tensor) -> Tensor {
        (self.sigma(t) / self.alpha(t)).square()
    }

    fn half_log_snr(&self, t: &Tensor) -> Tensor {
        self.log_alpha(t) - self.sigma(t).log()
    }

    fn time_at_half_log_snr(&self, half_log_snr: &Tensor) -> Tensor {
        self.time_at_sigma(&(-half_log_snr).sigmoid())
    }

    fn time_at_log_alpha(&self, log_alpha: &Tensor) -> Tensor {
        self.time_at_sigma(&-log_alpha.expm1())
    }

    fn beta(&self, t: &Tensor) -> Tensor {
        self.sigma_rate(t) * 2.0 / self.alpha(t)
    }

    fn squared_diffusion(&self, t: &Tensor) -> Tensor {
        // d sigma² / dt + beta sigma²; the sum of both is the second factor of beta.
        self.beta(t) * self.sigma(t)
    }

    fn added_variance(&self, earlier: &Tensor, later: &Tensor) -> Tensor {
        let kept = self.alpha(later) / self.alpha(earlier) * self.sigma(earlier);
        self.sigma(later).square() - kept.square()
    }

    fn score(&self, t: &Tensor, noise: &Tensor) -> Tensor {
        -noise / self.sigma(t)
    }

    fn last_time(&self) -> f64 {
        let sigma = 1.0 - LEAST_SIGNAL;
        sigma / (self.shift + (1.0 - self.shift) * sigma)
    }

    fn network_time(&self, t: &Tensor) -> Tensor {
        self.sigma(t) * TIME_SCALE
    }

    fn training_times(&self, uniform: &[f64]) -> TrainingTimes {
        let t = Tensor::from_slice(uniform);
        TrainingTimes {
            network_time: self.network_time(&t).to_kind(Kind::Float),
            alpha: self.alpha(&t),
            sigma: self.sigma(&t),
        }
    }
}
