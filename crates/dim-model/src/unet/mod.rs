//! The U-Net of ADM: a baseline that predicts the noise in an image with convolutions and some attention.
//!
//! Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233), and their published
//! code, whose parameters have the same names here.

mod attention;
mod config;
mod convolution;
mod cost;
mod embedding;
mod fresh;
mod layout;
mod norm;
mod residual;
mod specs;
mod stage;

use dim_torch::{ParameterSpec, Parameters, TorchError};
use tch::{Kind, Tensor};

use self::{convolution::Convolution, embedding::Embedding, layout::Layout, norm::GroupNorm, stage::Stage};
use crate::{
    Backbone, BackboneConfig, ConfigError, Cost, ModelError, Precision, Recompute,
    grid::{check_times, grid_of_input, size},
    init,
    layers::Segment,
    observer::Observer,
    weights::PublishedNames,
};

pub use self::config::UnetConfig;

/// The first parts of the names in a checkpoint.
pub(crate) const PUBLISHED_NAMES: PublishedNames = PublishedNames {
    first_parts: &["time_embed", "label_emb", "input_blocks", "middle_block", "output_blocks", "out"],
    computed: &[],
};

/// The U-Net of ADM. Its tensors are views of the [`Parameters`] that it owns.
pub struct Unet {
    config: UnetConfig,
    precision: Precision,
    parameters: Parameters,
    embedding: Embedding,
    input: Vec<Segment<Stage>>,
    middle: Segment<Stage>,
    output: Vec<Segment<Stage>>,
    norm_out: GroupNorm,
    conv_out: Convolution,
}

impl Unet {
    /// The network of `config` over `parameters`, which must be those of its `parameter_specs`.
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    pub fn new(config: UnetConfig, parameters: Parameters) -> Result<Self, ModelError> {
        config.check()?;
        let layout = Layout::new(&config);
        let stage =
            |stage| Ok::<_, TorchError>(Segment::new(Stage::new(&parameters, stage, config.num_head_channels)?));
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

    /// As [`Backbone::forward`], with all [`UnetConfig::out_channels`]: the noise, then what the variance is computed from.
    ///
    /// # Errors
    /// As [`Backbone::forward`].
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
        let _ = grid_of_input(x, self.config.in_channels, self.config.largest_downsampling())?;
        check_times(time_features, x)?;
        let batch = x.size()[0];
        if let Some(class) = class
            && (class.size() != [batch] || class.kind() != Kind::Int64)
        {
            let got = format!("{:?} {:?}", class.kind(), class.size());
            return Err(ModelError::Input { argument: "class", expected: format!("i64 [{batch}]"), got });
        }
        let embedding = self.embedding.forward(time_features, class)?;
        observe.see(|| "emb".into(), &embedding);
        // Every residual block starts from it.
        let activated = embedding.f_silu()?;

        let mut h = x.to_kind(self.precision.kind());
        let mut skips = Vec::new();
        for stage in &self.input {
            h = run_stage(stage, &h, &activated, self.precision, observe)?;
            skips.push(h.shallow_clone());
        }
        h = run_stage(&self.middle, &h, &activated, self.precision, observe)?;
        for stage in &self.output {
            if let Some(skip) = skips.pop() {
                h = Tensor::f_cat(&[h, skip], 1)?;
            }
            h = run_stage(stage, &h, &activated, self.precision, observe)?;
        }
        let h = self.norm_out.forward(&h.to_kind(Kind::Float))?.f_silu()?;
        Ok(self.conv_out.forward(&h, Precision::F32)?)
    }
}

fn run_stage(
    stage: &Segment<Stage>,
    h: &Tensor,
    activated: &Tensor,
    precision: Precision,
    observe: &mut Observer,
) -> Result<Tensor, TorchError> {
    if observe.looks() {
        return stage.with(|stage| stage.forward(h.shallow_clone(), activated, precision, observe));
    }
    let outputs = stage.run(&[h, activated], move |stage, inputs| {
        let h = stage.forward(inputs[0].shallow_clone(), &inputs[1], precision, &mut Observer(None))?;
        Ok(vec![h])
    })?;
    outputs.into_iter().next().ok_or_else(|| TorchError::Libtorch("a stage returned nothing".to_owned()))
}

impl Backbone for Unet {
    fn forward(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        Ok(self.forward_all(x, t, class)?.f_narrow(1, 0, size(self.config.in_channels))?)
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn set_recompute(&mut self, recompute: Recompute) {
        let depth = self.input.len() + 1 + self.output.len();
        let stages = self.input.iter_mut().chain([&mut self.middle]).chain(&mut self.output);
        for (index, stage) in stages.enumerate() {
            stage.run_again(recompute.block(index, depth));
        }
    }

    /// A fresh network predicts zero.
    fn initialise(&self, seed: u64) -> Result<(), ModelError> {
        let inputs = fresh::inputs(self.parameters.specs());
        init::initialise(&self.parameters, |spec| fresh::rule(spec, &inputs), seed)
    }
}

impl BackboneConfig for UnetConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.check()
    }

    fn parameter_specs(&self) -> Vec<ParameterSpec> {
        specs::parameter_specs(self)
    }

    fn build(&self, parameters: Parameters, precision: Precision) -> Result<Box<dyn Backbone>, ModelError> {
        Ok(Box::new(Unet::new(self.clone(), precision.prepare(parameters))?.with_precision(precision)))
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn with_image_size(&self, image_size: usize) -> Self {
        Self { image_size, ..self.clone() }
    }

    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn null_class(&self) -> Option<usize> {
        self.null_label()
    }

    fn size_multiple(&self) -> usize {
        self.largest_downsampling()
    }

    fn tokens(&self, height: usize, width: usize) -> usize {
        height * width
    }

    fn cost(&self, height: usize, width: usize) -> Cost {
        cost::cost(self, height, width)
    }
}

#[cfg(test)]
mod tests;
