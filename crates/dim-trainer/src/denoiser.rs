//! The network as samplers and objectives see it.

use dim_diffusion::{Denoiser, DiffusionError, Prediction};
use dim_model::{Backbone, BackboneConfig, ModelConfig, ModelError, Precision, Recompute};
use dim_torch::Parameters;
use dim_torch::distributed::World;
use tch::{Device, Tensor};

use crate::config::Config;

/// A network with its sizes, as a [`Denoiser`].
pub struct Network {
    config: ModelConfig,
    backbone: Box<dyn Backbone>,
    prediction: Prediction,
}

impl Network {
    /// The network of `config` over `parameters`; it predicts the noise, unless [`predicting`](Self::predicting) says otherwise.
    ///
    /// # Errors
    /// As [`BackboneConfig::build`].
    pub fn new(config: ModelConfig, parameters: Parameters, precision: Precision) -> Result<Self, ModelError> {
        let backbone = config.build(parameters, precision)?;
        Ok(Self { config, backbone, prediction: Prediction::Epsilon })
    }

    /// The network that a configuration describes, without gradients, its weights zero: for samples, once it is filled from a file.
    ///
    /// # Errors
    /// No memory, mostly.
    pub fn unfilled(config: &Config, device: Device, precision: Precision) -> Result<Self, ModelError> {
        let parameters = Parameters::frozen(&config.model.parameter_specs(), device)?;
        Ok(Self::new(config.model.clone(), parameters, precision)?.predicting(config.diffusion.prediction))
    }

    /// The same network, whose output stands for something else.
    #[must_use]
    pub fn predicting(self, prediction: Prediction) -> Self {
        Self { prediction, ..self }
    }

    /// Chooses what backward computes again.
    pub fn set_recompute(&mut self, recompute: Recompute) {
        self.backbone.set_recompute(recompute);
    }

    /// Splits the tokens of every image over all processes of `world`, as [`Backbone::split_sequence`] does.
    ///
    /// # Errors
    /// [`ModelError::Sequence`] for a network without a scan.
    pub fn split_sequence(&mut self, world: &World) -> Result<(), ModelError> {
        self.backbone.split_sequence(world)
    }

    /// Its sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        self.backbone.parameters()
    }

    /// Draws fresh weights from `seed`.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn initialise(&self, seed: u64) -> Result<(), ModelError> {
        self.backbone.initialise(seed)
    }
}

impl Denoiser for Network {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.backbone.forward(x_t, t, class).map_err(DiffusionError::denoiser)
    }

    fn prediction(&self) -> Prediction {
        self.prediction
    }

    fn null_class(&self) -> Option<i64> {
        self.config.null_class().and_then(|class| i64::try_from(class).ok())
    }
}
