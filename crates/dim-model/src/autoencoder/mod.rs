//! The autoencoder whose latents the ImageNet models work on. Source: Rombach et al. 2021, "High-Resolution Image Synthesis with
//! Latent Diffusion Models" (arXiv 2112.10752).
//!
//! Parameters have their published names, so that the authors' `autoencoder_kl*.pth` load as they are. With
//! [`AutoencoderConfig::name_table`] so do checkpoints of Stable Diffusion and diffusers' `AutoencoderKL`.

mod attention;
mod config;
mod cost;
mod fresh;
mod halves;
mod layers;
mod layout;
mod moments;
mod norms;
mod specs;
mod tiled;
mod tiling;

use dim_torch::Parameters;
use tch::{Kind, Tensor};

pub use config::AutoencoderConfig;
pub(crate) use config::GROUPS;
pub use moments::Moments;
pub use tiling::Tiling;

use crate::{
    ModelError, Precision,
    grid::{grid_of, size},
    observer::Observer,
};
use halves::{Decoder, Encoder};
use layers::Convolution;

/// Bounds of the logarithm of a latent's variance.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

/// An autoencoder of images. Its tensors are views of the [`Parameters`] that it owns.
pub struct Autoencoder {
    config: AutoencoderConfig,
    precision: Precision,
    parameters: Parameters,
    encoder: Encoder,
    quant_conv: Convolution,
    post_quant_conv: Convolution,
    decoder: Decoder,
}

impl Autoencoder {
    /// The autoencoder of `config` over `parameters`, which must be those of [`AutoencoderConfig::parameter_specs`].
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    pub fn new(config: AutoencoderConfig, parameters: Parameters) -> Result<Self, ModelError> {
        config.validate()?;
        Ok(Self {
            precision: Precision::F32,
            encoder: Encoder::new(&parameters, &config)?,
            quant_conv: Convolution::new(&parameters, "quant_conv")?,
            post_quant_conv: Convolution::new(&parameters, "post_quant_conv")?,
            decoder: Decoder::new(&parameters, &config)?,
            config,
            parameters,
        })
    }

    /// Chooses what convolutions and attention are computed in; norms and moments are always f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &AutoencoderConfig {
        &self.config
    }

    /// Its parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Encodes images, `[batch, channel, row, column]` in [-1, 1], whose sides are multiples of
    /// [`AutoencoderConfig::downsampling`].
    ///
    /// # Errors
    /// A shape that does not fit, named in the error.
    pub fn encode(&self, image: &Tensor) -> Result<Moments, ModelError> {
        self.encode_observed(image, &mut Observer(None))
    }

    pub(crate) fn encode_observed(&self, image: &Tensor, observe: &mut Observer) -> Result<Moments, ModelError> {
        let _ = grid_of("image", image, self.config.in_channels, self.config.downsampling())?;
        let encoded = self.encoder.forward(image, self.precision.kind(), observe)?;
        self.moments(&encoded)
    }

    /// From what the encoder gives.
    fn moments(&self, encoded: &Tensor) -> Result<Moments, ModelError> {
        let moments = self.quant_conv.forward(encoded, self.precision.kind())?.to_kind(Kind::Float);
        let z = size(self.config.latent_channels);
        Ok(Moments {
            mean: moments.f_narrow(1, 0, z)?,
            log_variance: moments.f_narrow(1, z, z)?.f_clamp(LOG_VARIANCE.0, LOG_VARIANCE.1)?,
            scaling_factor: self.config.scaling_factor,
        })
    }

    /// Decodes latents, `[batch, latent channel, row, column]` as the networks see them, to images in about [-1, 1], f32.
    ///
    /// # Errors
    /// A shape that does not fit, named in the error.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor, ModelError> {
        self.decode_observed(latent, &mut Observer(None))
    }

    pub(crate) fn decode_observed(&self, latent: &Tensor, observe: &mut Observer) -> Result<Tensor, ModelError> {
        let _ = grid_of("latent", latent, self.config.latent_channels, 1)?;
        let h = self.for_decoder(latent)?;
        observe.see(|| "post_quant_conv".into(), &h);
        Ok(self.decoder.forward(&h, self.precision.kind(), observe)?)
    }

    /// What the decoder is given.
    fn for_decoder(&self, latent: &Tensor) -> Result<Tensor, ModelError> {
        let latent = latent.f_div_scalar(self.config.scaling_factor)?;
        Ok(self.post_quant_conv.forward(&latent, self.precision.kind())?)
    }
}
