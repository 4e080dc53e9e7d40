//! The network as samplers and objectives see it.

use std::cell::RefCell;

use dim_diffusion::{Denoiser, DiffusionError, Prediction};
use dim_model::{Backbone, BackboneConfig, ModelConfig, ModelError, Precision, Recompute};
use dim_torch::distributed::World;
use dim_torch::{Parameters, RecordedCalls};
use tch::{Device, Tensor};

use crate::config::Config;

/// A network with its sizes, as a [`Denoiser`].
pub struct Network {
    config: ModelConfig,
    backbone: Box<dyn Backbone>,
    prediction: Prediction,
    recorded: Option<RefCell<Recorded>>,
}

/// Calls as CUDA graphs, and what else they depend on.
struct Recorded {
    calls: RecordedCalls,
    /// The image's sides, for networks keep what belongs to the size seen last; and how often the weights were written, of which they keep
    /// copies.
    state: Option<(Vec<i64>, i64)>,
    /// Whether it was said that they are not recorded.
    told: bool,
}

impl Network {
    /// The network of `config` over `parameters`; it predicts the noise, unless [`predicting`](Self::predicting) says otherwise.
    ///
    /// # Errors
    /// As [`BackboneConfig::build`].
    pub fn new(config: ModelConfig, parameters: Parameters, precision: Precision) -> Result<Self, ModelError> {
        let backbone = config.build(parameters, precision)?;
        Ok(Self { config, backbone, prediction: Prediction::Epsilon, recorded: None })
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

    /// From now on records its calls as CUDA graphs and replays them, which takes the host less time than to launch every kernel; on a CPU, does
    /// nothing. No gradients go through such calls. Where calls cannot be recorded, they are done as ever, and a line on stderr says so.
    pub fn record_calls(&mut self) {
        if let Device::Cuda(ordinal) = self.parameters().device() {
            let calls = RecordedCalls::new(ordinal);
            self.recorded = Some(RefCell::new(Recorded { calls, state: None, told: false }));
        }
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

impl Recorded {
    fn call(
        &mut self,
        backbone: &dyn Backbone,
        x_t: &Tensor,
        t: &Tensor,
        class: Option<&Tensor>,
    ) -> Result<Tensor, ModelError> {
        let written = backbone.parameters().values().f_internal_version()?;
        let state = Some((x_t.size().into_iter().skip(2).collect(), written));
        if self.state != state {
            self.calls.forget();
            self.state = state;
        }
        let arguments: Vec<Tensor> =
            [Some(x_t), Some(t), class].into_iter().flatten().map(Tensor::shallow_clone).collect();
        let result = self.calls.call(&arguments, |arguments| match arguments {
            [x_t, t, class @ ..] => backbone.forward(x_t, t, class.first()),
            _ => unreachable!("they are those above"),
        })?;
        if let Some(refusal) = self.calls.refusal().filter(|_| !self.told) {
            let first_line = refusal.lines().next().unwrap_or_default();
            eprintln!(
                "note: the network's calls cannot be recorded as CUDA graphs, so its kernels are launched one by one: {first_line}"
            );
            self.told = true;
        }
        Ok(result)
    }
}

impl Denoiser for Network {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let result = match &self.recorded {
            Some(recorded) => recorded.borrow_mut().call(&*self.backbone, x_t, t, class),
            None => self.backbone.forward(x_t, t, class),
        };
        result.map_err(DiffusionError::denoiser)
    }

    fn prediction(&self) -> Prediction {
        self.prediction
    }

    fn null_class(&self) -> Option<i64> {
        self.config.null_class().and_then(|class| i64::try_from(class).ok())
    }
}
