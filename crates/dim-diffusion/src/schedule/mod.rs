//! How much signal and how much noise there is at each time.
//!
//! At time `t` an image is `x_t = alpha(t) x_0 + sigma(t) noise`: with `alpha² + sigma² = 1` (variance preserving) in
//! [`ScaledLinear`] and [`VpSde`], with `alpha + sigma = 1` (straight paths) in [`RectifiedFlow`].
//! Time runs from 0 (clean) to 1 (noise); what the network is told instead is its *network time*.

mod piecewise_linear;
mod rectified_flow;
mod scaled_linear;
mod vp_sde;

pub use rectified_flow::RectifiedFlow;
pub use scaled_linear::ScaledLinear;
pub use vp_sde::VpSde;

use tch::Tensor;

use crate::{DiffusionError, upload};

/// A noise schedule in continuous time.
///
/// The functions given here are those of variance-preserving schedules; others replace every one that says so.
///
/// Every function takes a tensor of times (f32 or f64, any shape) and returns a tensor of the same shape, kind and
/// device. In f32 the order of operations is that of the DPM-Solver authors' code, because near `t = 0` the rounding
/// of `1 - exp(2 log alpha)` shows in the third digit of `sigma`.
pub trait NoiseSchedule {
    /// `log alpha(t)`.
    fn log_alpha(&self, t: &Tensor) -> Tensor;

    /// The time at which `log alpha` has the given value.
    fn time_at_log_alpha(&self, log_alpha: &Tensor) -> Tensor;

    /// The rate `beta(t) = -2 d log alpha / dt` at which the image fades.
    fn beta(&self, t: &Tensor) -> Tensor;

    /// The rate at which variance enters: the squared diffusion `d sigma² / dt + beta sigma²` of the SDE with these marginals, which
    /// is `beta` itself if variance is preserved.
    fn squared_diffusion(&self, t: &Tensor) -> Tensor {
        self.beta(t)
    }

    /// The variance of the noise that enters between two times, `sigma² − (alpha / alpha_earlier)² sigma_earlier²` at the later one;
    /// here for preserved variance.
    fn added_variance(&self, earlier: &Tensor, later: &Tensor) -> Tensor {
        1f64 - (self.alpha(later) / self.alpha(earlier)).square()
    }

    /// The score (the gradient of the log density) that predicted noise stands for, `-noise / sigma`, here for preserved variance; `t`
    /// is 0-dimensional.
    fn score(&self, t: &Tensor, noise: &Tensor) -> Tensor {
        noise * -(1f64 - self.alpha_bar(t)).rsqrt()
    }

    /// The latest time at which samplers may start that divide by `alpha`: 1, unless no signal is left there.
    fn last_time(&self) -> f64 {
        1.0
    }

    /// The time as the network is told it.
    fn network_time(&self, t: &Tensor) -> Tensor;

    /// The training times that numbers in `[0, 1)` stand for, one per sample; uniform numbers give the schedule's own distribution.
    fn training_times(&self, uniform: &[f64]) -> TrainingTimes;

    /// `alpha(t)`, the share of the clean image.
    fn alpha(&self, t: &Tensor) -> Tensor {
        self.log_alpha(t).exp()
    }

    /// `alpha_bar(t) = alpha(t)²`, the clean image's share of the variance.
    fn alpha_bar(&self, t: &Tensor) -> Tensor {
        (self.log_alpha(t) * 2.0).exp()
    }

    /// `sigma(t)`, the standard deviation of the noise; here for preserved variance.
    fn sigma(&self, t: &Tensor) -> Tensor {
        (1f64 - self.alpha_bar(t)).sqrt()
    }

    /// `(sigma / alpha)²`; here for preserved variance, without the cancellation of `1 - alpha_bar` near `t = 0`.
    fn noise_to_signal(&self, t: &Tensor) -> Tensor {
        (self.log_alpha(t) * -2.0).expm1()
    }

    /// `lambda(t) = log(alpha / sigma)`, half the log signal-to-noise ratio; falls strictly with time. Here for preserved variance.
    fn half_log_snr(&self, t: &Tensor) -> Tensor {
        self.log_alpha(t) - (1f64 - self.alpha_bar(t)).log() * 0.5
    }

    /// The time at which half the log signal-to-noise ratio has the given value; here for preserved variance.
    fn time_at_half_log_snr(&self, half_log_snr: &Tensor) -> Tensor {
        let twice = half_log_snr * -2.0;
        self.time_at_log_alpha(&(twice.zeros_like().logaddexp(&twice) * -0.5))
    }
}

/// The noising of a training batch: what the network is told, and how image and noise mix.
#[derive(Debug)]
pub struct TrainingTimes {
    /// The time as the network is told it, `[batch]`, f32.
    pub network_time: Tensor,
    /// The share of the clean image, `[batch]`, f32 or f64.
    pub alpha: Tensor,
    /// The share of the noise, `[batch]`, of the same kind.
    pub sigma: Tensor,
}

impl TrainingTimes {
    /// `x_t = alpha x_0 + sigma noise`, in the kind and on the device of `x_0`.
    ///
    /// - `x_0`, `noise`: `[batch, …]`, of one shape, kind and device
    ///
    /// In bf16 the two shares are rounded to bf16 first, as in the DiM authors' training.
    ///
    /// # Errors
    /// Shapes that do not fit; no memory.
    pub fn noised(&self, x_0: &Tensor, noise: &Tensor) -> Result<Tensor, DiffusionError> {
        let mut per_sample = vec![1; x_0.dim()];
        per_sample[0] = -1;
        let share = |share: &Tensor| -> Result<Tensor, DiffusionError> {
            Ok(upload(&share.to_kind(x_0.kind()), x_0.device())?.f_view(&per_sample[..])?)
        };
        Ok(share(&self.alpha)?.f_mul(x_0)?.f_add(&share(&self.sigma)?.f_mul(noise)?)?)
    }
}
