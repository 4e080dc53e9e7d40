//! What an image is encoded to.

use tch::{Kind, Tensor};

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
    /// Moments from elsewhere, such as a file: `both`, `[batch, 2 × latent channels, row, column]`, has the means before the
    /// logarithms of the variances, as [`Moments::both`] gives them.
    ///
    /// # Errors
    /// Another number of dimensions, or of channels that is odd.
    pub fn new(both: &Tensor, scaling_factor: f64) -> Result<Self, ModelError> {
        match both.size()[..] {
            [_, channels, _, _] if channels > 0 && channels % 2 == 0 => Ok(Self {
                mean: both.f_narrow(1, 0, channels / 2)?,
                log_variance: both.f_narrow(1, channels / 2, channels / 2)?,
                scaling_factor,
            }),
            _ => {
                let expected = "[batch, channel, row, column] with an even number of channels".to_owned();
                Err(ModelError::Input { argument: "moments", expected, got: format!("of shape {:?}", both.size()) })
            }
        }
    }

    /// Means and logarithms of variances in one tensor, `[batch, 2 × latent channels, row, column]`; neither is scaled.
    ///
    /// # Errors
    /// No memory.
    pub fn both(&self) -> Result<Tensor, ModelError> {
        Ok(Tensor::f_cat(&[&self.mean, &self.log_variance], 1)?)
    }

    /// The likeliest latent, scaled as the networks see it.
    ///
    /// # Errors
    /// No memory.
    pub fn mode(&self) -> Result<Tensor, ModelError> {
        Ok(self.mean.f_mul_scalar(self.scaling_factor)?)
    }

    /// The divergence of the distribution from a standard normal one, summed over each image's latent: `[batch]`, at least 0.
    /// Source: Kingma & Welling 2013 (arXiv 1312.6114), appendix B.
    ///
    /// # Errors
    /// No memory.
    pub fn divergence(&self) -> Result<Tensor, ModelError> {
        let variance = self.log_variance.f_exp()?;
        let twice = self.mean.f_square()?.f_add(&variance)?.f_sub_scalar(1.0)?.f_sub(&self.log_variance)?;
        Ok(twice.f_sum_dim_intlist(&[1_i64, 2, 3][..], false, Kind::Float)?.f_mul_scalar(0.5)?)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tch::Device;

    use super::*;

    #[test]
    fn moments_survive_as_one_tensor_and_sample_by_hand() {
        let both = Tensor::from_slice(&[0.5f32, -1.0, 0.0, 4.0f32.ln()]).view([1, 4, 1, 1]);
        let moments = Moments::new(&both, 2.0).unwrap();
        assert!(moments.both().unwrap().equal(&both));
        let sample = moments.sample(&Tensor::from_slice(&[1.0f32, 0.25]).view([1, 2, 1, 1])).unwrap();
        // 2 · (0.5 + 1 · 1) and 2 · (−1 + 2 · 0.25)
        let error = (sample.view([-1]) - Tensor::from_slice(&[3.0f32, -1.0])).abs().max().double_value(&[]);
        assert!(error < 1e-6, "{error}");
    }

    #[test]
    fn divergence_is_zero_from_a_standard_normal_and_by_hand_elsewhere() {
        let both = Tensor::from_slice(&[0.0f32, 0.0, 3.0, 4.0f32.ln()]).view([2, 2, 1, 1]);
        let divergence = Moments::new(&both, 2.0).unwrap().divergence().unwrap();
        // ½ (3² + 4 − 1 − ln 4)
        let expected = Tensor::from_slice(&[0.0, 0.5 * (9.0 + 4.0 - 1.0 - 4.0f32.ln())]);
        assert!((divergence - expected).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn an_odd_number_of_channels_is_no_moments() {
        let error = Moments::new(&Tensor::zeros([1, 3, 2, 2], (Kind::Float, Device::Cpu)), 1.0).unwrap_err();
        assert!(error.to_string().contains("even number") && error.to_string().contains("[1, 3, 2, 2]"), "{error}");
    }
}
