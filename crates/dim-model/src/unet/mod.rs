//! The U-Net of ADM: a baseline that predicts the noise in an image with convolutions and some attention.
//!
//! Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233), and their published
//! code, whose parameters have the same names here.

mod attention;
mod config;
mod convolution;
mod cost;
mod embedding;
mod init;
mod layout;
mod norm;
mod residual;
mod specs;
mod stage;

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use self::{convolution::Convolution, embedding::Embedding, layout::Layout, norm::GroupNorm, stage::Stage};
use crate::{ModelError, Precision, dim::Observer};

pub use self::config::UnetConfig;

/// The U-Net of ADM. Its tensors are views of the [`Parameters`] that it owns.
pub struct Unet {
    config: UnetConfig,
    precision: Precision,
    parameters: Parameters,
    embedding: Embedding,
    input: Vec<Stage>,
    middle: Stage,
    output: Vec<Stage>,
    norm_out: GroupNorm,
    conv_out: Convolution,
}

impl Unet {
    /// The network of `config` over `parameters`, which must be those of [`UnetConfig::parameter_specs`].
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    pub fn new(config: UnetConfig, parameters: Parameters) -> Result<Self, ModelError> {
        config.validate()?;
        let layout = Layout::new(&config);
        let stage = |stage| Stage::new(&parameters, stage, config.num_head_channels);
        Ok(Self {
            precision: Precision::F32,
            embedding: Embedding::new(&parameters, &config)?,
            input: layout.input.iter().map(stage).collect::<Result<_, _>>()?,
            middle: stage(&layout.middle)?,
            output: layout.output.iter().map(stage).collect::<Result<_, _>>()?,
            norm_out: GroupNorm::new(&parameters, "out.0")?,
            conv_out: Convolution::new(&parameters, "out.2")?,
            config,
            parameters,
        })
    }

    /// Chooses what convolutions and attention are computed in, and the stream between them is kept in; embeddings, norms and
    /// the output are computed in f32 always.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The network's sizes.
    #[must_use]
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// The network's parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Draws fresh weights; each parameter's depend on `seed` and its name alone. A fresh network predicts zero.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn initialise(&self, seed: u64) -> Result<(), ModelError> {
        init::initialise(&self.parameters, seed)
    }

    /// Predicts the noise in `x`, `[batch, channel, row, column]`, at network time `t`, `[batch]` (0 to 1000), for
    /// `class`, `[batch]` i64 (`None`: no class, which a network with classes takes only if it has a null class). Height and
    /// width may be any multiples of [`UnetConfig::largest_downsampling`].
    ///
    /// # Errors
    /// A shape, type or label that does not fit, named in the error.
    pub fn forward(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        Ok(self.forward_all(x, t, class)?.f_narrow(1, 0, size(self.config.in_channels))?)
    }

    /// As [`Unet::forward`], with all [`UnetConfig::out_channels`]: the noise, then what the variance is computed from.
    ///
    /// # Errors
    /// As [`Unet::forward`].
    pub fn forward_all(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        if t.dim() != 1 {
            let (expected, got) = ("[batch]".into(), format!("of shape {:?}", t.size()));
            return Err(ModelError::Input { argument: "t", expected, got });
        }
        self.run(x, &self.time_features(t)?, class, &mut Observer(None))
    }

    /// The sinusoids of `t`, `[batch]`: `[batch, model_channels]`.
    pub(crate) fn time_features(&self, t: &Tensor) -> Result<Tensor, TorchError> {
        self.embedding.time_features(t)
    }

    /// The forward pass, from the sinusoids on.
    pub(crate) fn run(
        &self,
        x: &Tensor,
        time_features: &Tensor,
        class: Option<&Tensor>,
        observe: &mut Observer,
    ) -> Result<Tensor, ModelError> {
        self.check(x, time_features, class)?;
        let embedding = self.embedding.forward(time_features, class)?;
        observe.see(|| "emb".into(), &embedding);
        // Every residual block starts from it.
        let activated = embedding.f_silu()?;

        let mut h = x.to_kind(self.precision.kind());
        let mut skips = Vec::new();
        for stage in &self.input {
            h = stage.forward(h, &activated, self.precision, observe)?;
            skips.push(h.shallow_clone());
        }
        h = self.middle.forward(h, &activated, self.precision, observe)?;
        for stage in &self.output {
            if let Some(skip) = skips.pop() {
                h = Tensor::f_cat(&[h, skip], 1)?;
            }
            h = stage.forward(h, &activated, self.precision, observe)?;
        }
        let h = self.norm_out.forward(&h.to_kind(Kind::Float))?.f_silu()?;
        Ok(self.conv_out.forward(&h, Precision::F32)?)
    }

    /// Checks the inputs.
    fn check(&self, x: &Tensor, time_features: &Tensor, class: Option<&Tensor>) -> Result<(), ModelError> {
        let wrong = |argument, expected: String, got: String| Err(ModelError::Input { argument, expected, got });
        let rate = size(self.config.largest_downsampling());
        let shape = format!("of shape {:?}", x.size());
        let [batch, channels, height, width] = x.size()[..] else {
            return wrong("x", "[batch, channel, row, column]".into(), shape);
        };
        if batch == 0 || channels != size(self.config.in_channels) {
            return wrong("x", format!("at least one image of {} channels", self.config.in_channels), shape);
        }
        if [height, width].iter().any(|side| *side <= 0 || side % rate != 0) {
            return wrong("x", format!("of height and width that are multiples of {rate}"), shape);
        }
        if time_features.size()[0] != batch {
            return wrong("t", format!("[batch] = [{batch}]"), format!("[{}]", time_features.size()[0]));
        }
        if let Some(class) = class
            && (class.size() != [batch] || class.kind() != Kind::Int64)
        {
            return wrong("class", format!("i64 [{batch}]"), format!("{:?} {:?}", class.kind(), class.size()));
        }
        Ok(())
    }
}

/// A size as libtorch counts it.
fn size(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
