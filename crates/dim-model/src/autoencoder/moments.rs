//! What an image is encoded to.

use tch::Tensor;

use crate::ModelError;

/// A normal distribution of latents, each tensor `[batch, latent channel, row, column]` f32.
#[derive(Debug)]
pub struct Moments {
    /// Means.
    pub mean: Tensor,
    /// Logarithms of the variances, from -30 to 20.
    pub log_variance: Tensor,
    pub(super) scaling_factor: f64,
}

impl Moments {
    /// The likeliest latent, scaled as the networks see it.
    ///
    /// # Errors
    /// No memory.
    pub fn mode(&self) -> Result<Tensor, ModelError> {
        Ok(self.mean.f_mul_scalar(self.scaling_factor)?)
    }

    /// The latent that standard normal `noise`, of the shape of the mean, stands for, scaled as the networks see it.
    ///
    /// # Errors
    /// Noise of another shape, which broadcasting would take for the same noise in several places.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor, ModelError> {
        if noise.size() != self.mean.size() {
            let (expected, got) = (format!("of shape {:?}", self.mean.size()), format!("of shape {:?}", noise.size()));
            return Err(ModelError::Input { argument: "noise", expected, got });
        }
        let deviation = self.log_variance.f_mul_scalar(0.5)?.f_exp()?;
        Ok(self.mean.f_add(&deviation.f_mul(noise)?)?.f_mul_scalar(self.scaling_factor)?)
    }
}
