//! The variance-preserving SDE with a linear rate (Song et al., arXiv 2011.13456, section 3.4).

use tch::{Kind, Tensor};

use super::{NoiseSchedule, TrainingTimes};
use crate::DiffusionError;

/// The schedule `beta(t) = beta_min + (beta_max - beta_min) t`.
///
/// The network is told `time_scale t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VpSde {
    beta_min: f64,
    beta_max: f64,
    time_scale: f64,
}

impl VpSde {
    /// The schedule of DiM's CIFAR-10 models: `beta(t) = 0.1 + 19.9 t`, network time `999 t`.
    pub fn cifar10() -> Self {
        Self { beta_min: 0.1, beta_max: 20.0, time_scale: 999.0 }
    }

    /// A schedule of other rates and another scale of the network's time.
    ///
    /// # Errors
    /// Unless `0 < beta_min <= beta_max`, all finite, and `time_scale > 0`.
    pub fn new(beta_min: f64, beta_max: f64, time_scale: f64) -> Result<Self, DiffusionError> {
        if !(beta_min > 0.0 && beta_min.is_finite()) {
            return Err(DiffusionError::option("beta_min", "positive", beta_min));
        }
        if !(beta_max >= beta_min && beta_max.is_finite()) {
            return Err(DiffusionError::option("beta_max", "at least beta_min", beta_max));
        }
        if !(time_scale > 0.0 && time_scale.is_finite()) {
            return Err(DiffusionError::option("time_scale", "positive", time_scale));
        }
        Ok(Self { beta_min, beta_max, time_scale })
    }

    /// The training times of given times in `[0, 1]`: `t` is `[batch]`, f32 or f64.
    pub fn training_times_at(&self, t: &Tensor) -> TrainingTimes {
        TrainingTimes {
            network_time: self.network_time(t).to_kind(Kind::Float),
            alpha: self.alpha(t),
            sigma: self.sigma(t),
        }
    }
}

impl NoiseSchedule for VpSde {
    fn log_alpha(&self, t: &Tensor) -> Tensor {
        let integral_of_beta = t.square() * ((self.beta_max - self.beta_min) * 0.5) + t * self.beta_min;
        integral_of_beta * -0.5
    }

    fn alpha(&self, t: &Tensor) -> Tensor {
        self.alpha_bar(t).sqrt()
    }

    fn time_at_log_alpha(&self, log_alpha: &Tensor) -> Tensor {
        // The positive root of the quadratic in `log_alpha`, in the form that does not cancel near t = 0.
        let integral_of_beta = log_alpha * -2.0;
        let discriminant = &integral_of_beta * (2.0 * (self.beta_max - self.beta_min)) + self.beta_min * self.beta_min;
        integral_of_beta * 2.0 / (discriminant.sqrt() + self.beta_min)
    }

    fn beta(&self, t: &Tensor) -> Tensor {
        t * (self.beta_max - self.beta_min) + self.beta_min
    }

    fn network_time(&self, t: &Tensor) -> Tensor {
        t * self.time_scale
    }

    fn training_times(&self, uniform: &[f64]) -> TrainingTimes {
        // Cut to the 24 bits that f32 holds, so that rounding never yields 1.
        let cut = f64::from(1 << 24);
        let t: Vec<f32> = uniform.iter().map(|u| ((u * cut).floor() / cut) as f32).collect();
        self.training_times_at(&Tensor::from_slice(&t))
    }
}
