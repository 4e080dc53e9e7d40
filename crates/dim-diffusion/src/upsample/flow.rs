//! Upsample guidance on the straight paths of rectified flow.
//!
//! With `x = (1 − s) x_0 + s noise`, the image that was shrunk by a factor m is `(1 − s) x_0 + s/m noise`: divided by the sum of the
//! two shares it lies on the path of a small image, at `tau = (s/m) / (1 − s + s/m)`. Guidance works on `x_0`, which is the same for
//! both sizes; written in the noise, it is that of diffusion.
//!
//! ```text
//! x_0 = high + weight · enlarged(low − shrunk(high))
//! ```

use tch::Tensor;

use super::{UpsampleOptions, first_of};
use crate::{
    Denoiser, DiffusionError, Prediction,
    schedule::{NoiseSchedule, RectifiedFlow},
};

/// A denoiser of large images made of one of small images that was trained with [`RectifiedFlow`], whatever its time shift. It
/// predicts [`Prediction::Flow`], whatever the network predicts.
pub struct FlowUpsampleGuidance<'a> {
    denoiser: &'a dyn Denoiser,
    options: UpsampleOptions,
    /// Of `s` itself.
    schedule: RectifiedFlow,
}

impl<'a> FlowUpsampleGuidance<'a> {
    /// Guides `denoiser`.
    ///
    /// # Errors
    /// An option that has a value it cannot have.
    pub fn new(denoiser: &'a dyn Denoiser, options: UpsampleOptions) -> Result<Self, DiffusionError> {
        options.validate()?;
        Ok(Self { denoiser, options, schedule: RectifiedFlow::new(1.0)? })
    }

    /// What the network tells of `x_t` at the share `noise`: the velocity, and the clean image.
    fn look(&self, x_t: &Tensor, noise: f64, class: Option<&Tensor>) -> Result<(Tensor, Tensor), DiffusionError> {
        let output = self.denoiser.predict_at(x_t, self.network_time(noise), class)?;
        let prediction = self.denoiser.prediction();
        let [alpha, sigma] = [1.0 - noise, noise].map(Tensor::from);
        let x_0 = prediction.x_0(&output, x_t, &alpha, &sigma);
        let velocity = match prediction {
            Prediction::Flow => output,
            _ => prediction.noise(&output, x_t, &alpha, &sigma) - &x_0,
        };
        Ok((velocity, x_0))
    }

    fn network_time(&self, noise: f64) -> f64 {
        self.schedule.network_time(&Tensor::from(noise)).double_value(&[])
    }
}

impl Denoiser for FlowUpsampleGuidance<'_> {
    /// The time of the first image counts for all; reading it waits for the device, which samplers avoid by
    /// [`Denoiser::predict_at`].
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.predict_at(x_t, first_of(t)?, class)
    }

    fn predict_at(&self, x_t: &Tensor, network_time: f64, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.options.check_shape(x_t)?;
        let last = self.network_time(1.0);
        let noise = network_time / last;
        let (velocity, high) = self.look(x_t, noise, class)?;
        let weight = self.options.weight(network_time, last);
        if weight == 0.0 {
            return Ok(velocity);
        }
        #[allow(clippy::cast_precision_loss)] // a small number
        let small_noise = noise / self.options.factor as f64;
        let scale = 1.0 - noise + small_noise;
        let (_, low) = self.look(&(self.options.shrunk(x_t)? / scale), small_noise / scale, class)?;
        // Along the path the velocity is (x − x_0) / s.
        Ok(velocity - self.options.correction(&high, &low)? * (weight / noise))
    }

    fn prediction(&self) -> Prediction {
        Prediction::Flow
    }

    fn null_class(&self) -> Option<i64> {
        self.denoiser.null_class()
    }
}
