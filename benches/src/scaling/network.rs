//! A network with its inputs, ready to be timed.

use dim_diffusion::guidance::ClassifierFreeGuidance;
use dim_diffusion::{Denoiser, DiffusionError};
use dim_model::{Backbone, BackboneConfig, ModelConfig, Precision, Recompute};
use dim_report::record::Mode;
use dim_torch::{AdamW, AdamWConfig, CudaGraph, Parameters};
use tch::{Device, Kind, Tensor, no_grad};

use super::SweepError;

const CFG_SCALE: f64 = 1.5;
/// Before a recording.
const WARM_UP_RUNS: usize = 3;
/// Where a step of a solver takes image and noise: what they are does not change its time.
const STEP: (f64, f64) = (0.99, -0.01);

/// A network, and its optimiser if it trains.
pub struct Network {
    backbone: Box<dyn Backbone>,
    config: ModelConfig,
    optimizer: Option<AdamW>,
}

/// A batch of inputs.
pub struct Inputs {
    x: Tensor,
    t: Tensor,
    class: Option<Tensor>,
    noise: Tensor,
}

impl Network {
    /// The network with random weights; `trains` gives it gradients and an optimiser, and says what backward computes again.
    ///
    /// # Errors
    /// No memory, mostly.
    pub fn new(
        config: &ModelConfig,
        precision: Precision,
        trains: Option<Recompute>,
        device: Device,
    ) -> Result<Self, SweepError> {
        let specs = config.parameter_specs();
        let mut parameters = Parameters::zeros(&specs, device)?;
        if trains.is_none() {
            parameters = Parameters::from_flat(&specs, parameters.values())?; // frees the gradients
        }
        no_grad(|| -> Result<(), SweepError> {
            let _ = parameters.values().f_normal_(0.0, 0.02)?;
            for (spec, tensor) in parameters.iter() {
                // What multiplies a whole channel is near 1 in any trained network.
                if spec.name.contains("norm") && spec.name.ends_with("weight") || spec.name.ends_with("mamba.d") {
                    let _ = tensor.shallow_clone().f_fill_(1.0)?;
                }
            }
            Ok(())
        })?;
        let settings = AdamWConfig {
            beta1: 0.99,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.03,
            clip_norm: Some(1.0),
            ema_decay: 0.9999,
            ema_warmup: false,
        };
        let optimizer = trains.map(|_| AdamW::new(settings, &parameters));
        let mut backbone = config.build(parameters, precision)?;
        backbone.set_recompute(trains.unwrap_or_default());
        Ok(Self { backbone, config: config.clone(), optimizer })
    }

    /// Inputs of its size.
    ///
    /// # Errors
    /// No memory.
    pub fn inputs(&self, batch: u32) -> Result<Inputs, SweepError> {
        let device = self.backbone.parameters().device();
        let (batch, side) = (i64::from(batch), i64::try_from(self.config.image_size()).unwrap_or(i64::MAX));
        let channels = i64::try_from(self.config.in_channels()).unwrap_or(i64::MAX);
        let normal = || Tensor::f_randn([batch, channels, side, side], (Kind::Float, device));
        let classes = i64::try_from(self.config.classes()).unwrap_or(i64::MAX);
        let class = (classes > 0).then(|| Tensor::f_randint(classes, [batch], (Kind::Int64, device))).transpose()?;
        let t = Tensor::f_rand([batch], (Kind::Float, device))? * 999.0;
        Ok(Inputs { x: normal()?, t, class, noise: normal()? })
    }

    /// Does once what `mode` is called.
    ///
    /// # Errors
    /// No memory, mostly.
    pub fn run(&mut self, mode: Mode, inputs: &Inputs) -> Result<(), SweepError> {
        match mode {
            Mode::Forward | Mode::SamplingStep => self.infer(mode, inputs).map(drop),
            Mode::TrainingStep => self.training_step(inputs),
        }
    }

    /// Records what `mode` does on CUDA device `ordinal`.
    ///
    /// # Errors
    /// No memory, or work that cannot be recorded.
    pub fn record(&self, mode: Mode, inputs: &Inputs, ordinal: usize) -> Result<CudaGraph, SweepError> {
        Ok(CudaGraph::record(ordinal, WARM_UP_RUNS, || self.infer(mode, inputs))?.0)
    }

    fn infer(&self, mode: Mode, inputs: &Inputs) -> Result<Tensor, SweepError> {
        no_grad(|| if mode == Mode::SamplingStep { self.sampling_step(inputs) } else { self.predict(inputs) })
    }

    fn predict(&self, inputs: &Inputs) -> Result<Tensor, SweepError> {
        Ok(self.backbone.forward(&inputs.x, &inputs.t, inputs.class.as_ref())?)
    }

    fn sampling_step(&self, inputs: &Inputs) -> Result<Tensor, SweepError> {
        // A network without a label for "no class" is guided by another class: the time is the same.
        let guided = ClassifierFreeGuidance::new(self, CFG_SCALE)?;
        let noise = guided.predict(&inputs.x, &inputs.t, Some(&self.labels(inputs)))?;
        Ok(&inputs.x * STEP.0 + noise * STEP.1)
    }

    fn labels(&self, inputs: &Inputs) -> Tensor {
        inputs.class.as_ref().map_or_else(|| inputs.t.to_kind(Kind::Int64).zeros_like(), Tensor::shallow_clone)
    }

    fn training_step(&mut self, inputs: &Inputs) -> Result<(), SweepError> {
        self.backbone.parameters().zero_gradients();
        let loss = (self.predict(inputs)? - &inputs.noise).f_square()?.f_mean(Kind::Float)?;
        loss.f_backward()?;
        if let Some(optimizer) = &mut self.optimizer {
            let _ = optimizer.step(self.backbone.parameters(), 1e-4)?;
        }
        Ok(())
    }
}

impl Denoiser for Network {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let class = class.filter(|_| self.config.classes() > 0);
        self.backbone.forward(x_t, t, class).map_err(DiffusionError::denoiser)
    }

    fn null_class(&self) -> Option<i64> {
        Some(self.config.null_class().and_then(|class| i64::try_from(class).ok()).unwrap_or(0))
    }
}
