//! U-ViT, a vision transformer with long skips. Source: Bao et al. 2022, "All are Worth Words: A ViT Backbone for Diffusion
//! Models" (arXiv 2209.12152).
//!
//! Parameters have their published names, so that published checkpoints load as they are.

mod block;
mod config;
mod specs;

use dim_torch::{ParameterSpec, Parameters, TorchError};
use tch::{Kind, Tensor};

pub use config::UvitConfig;

use crate::{
    Backbone, BackboneConfig, ConfigError, Cost, ModelError, Precision, Recompute,
    grid::{Grid, check_times, grid_of_input, labels, size},
    init::initialise,
    layers::{Linear, Norm, PatchEmbed, Segment, Sinusoid, Stream, resized_rows, unpatchify},
    observer::Observer,
    weights::PublishedNames,
};
use block::{Block, NORM_EPS};

/// The first parts of the names in a checkpoint.
pub(crate) const PUBLISHED_NAMES: PublishedNames = PublishedNames {
    first_parts: &[
        "pos_embed",
        "patch_embed",
        "time_embed",
        "label_emb",
        "in_blocks",
        "mid_block",
        "out_blocks",
        "norm",
        "decoder_pred",
        "final_layer",
    ],
    computed: &[],
};

/// A vision transformer with long skips. Its tensors are views of the [`Parameters`] that it owns.
pub struct Uvit {
    config: UvitConfig,
    precision: Precision,
    parameters: Parameters,
    position_table: Tensor,
    patch_embed: PatchEmbed,
    time_sinusoid: Sinusoid,
    time_embed: Option<(Linear, Linear)>,
    class_embed: Option<Tensor>,
    /// First those before the middle, then the middle one, then those with a skip.
    pub(crate) blocks: Vec<Segment<Block>>,
    norm: Norm,
    decoder_pred: Linear,
    final_layer: Option<(Tensor, Tensor)>,
}

impl Uvit {
    /// The network of `config` over `parameters`, which must be those of its `parameter_specs`.
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    pub fn new(config: UvitConfig, parameters: Parameters) -> Result<Self, ModelError> {
        config.check()?;
        let half = config.depth / 2;
        let block =
            |name: &str, skip| Ok::<_, TorchError>(Segment::new(Block::new(&parameters, name, config.heads, skip)?));
        let before = (0..half).map(|index| block(&format!("in_blocks.{index}"), false));
        let after = (0..half).map(|index| block(&format!("out_blocks.{index}"), true));
        let blocks = before.chain([block("mid_block", false)]).chain(after).collect::<Result<_, _>>()?;
        let linear = |name| Linear::new(&parameters, name);
        let time_embed = || Ok::<_, TorchError>((linear("time_embed.0")?, linear("time_embed.2")?));
        let final_layer =
            || Ok::<_, TorchError>((parameters.get("final_layer.weight")?, parameters.get("final_layer.bias")?));
        Ok(Self {
            precision: Precision::F32,
            position_table: parameters.get("pos_embed")?,
            patch_embed: PatchEmbed::new(&parameters, "patch_embed.proj")?,
            time_sinusoid: Sinusoid::new(config.d_model, parameters.device())?,
            time_embed: config.mlp_time_embed.then(time_embed).transpose()?,
            class_embed: (config.classes > 0).then(|| parameters.get("label_emb.weight")).transpose()?,
            blocks,
            norm: Norm::layer(&parameters, "norm", NORM_EPS)?,
            decoder_pred: linear("decoder_pred")?,
            final_layer: config.conv.then(final_layer).transpose()?,
            config,
            parameters,
        })
    }

    /// Chooses what the wide products are computed in.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The network's sizes.
    #[must_use]
    pub fn config(&self) -> &UvitConfig {
        &self.config
    }

    /// Of the wide products.
    pub(crate) fn kind(&self) -> Kind {
        self.precision.kind()
    }

    /// The sinusoid of `t`, `[batch]`.
    pub(crate) fn sinusoid(&self, t: &Tensor) -> Result<Tensor, TorchError> {
        self.time_sinusoid.of(t)
    }

    /// The forward pass, from the sinusoid on.
    pub(crate) fn run(
        &self,
        x: &Tensor,
        sinusoid: &Tensor,
        class: Option<&Tensor>,
        observe: &mut Observer,
    ) -> Result<Tensor, ModelError> {
        let grid = grid_of_input(x, self.config.in_channels, self.config.patch_size)?;
        check_times(sinusoid, x)?;
        let tokens = self.tokens(x, grid, sinusoid, class, observe)?;
        observe.see(|| "tokens".into(), &tokens);

        let stream = self.run_blocks(tokens, observe)?;
        let output = self.decoder_pred.forward(&self.finish(&stream)?, self.kind())?.to_kind(Kind::Float);
        observe.see(|| "final".into(), &output);
        let patches = output.f_narrow(1, size(self.config.extra_tokens()), size(grid.patches()))?;
        let image = unpatchify(&patches, grid, self.config.patch_size)?;
        match &self.final_layer {
            Some((weight, bias)) => Ok(image.f_conv2d(weight, Some(bias), [1, 1], [1, 1], [1, 1], 1)?),
            None => Ok(image),
        }
    }

    /// Class, time and patches with their positions, `[batch, token, d_model]` f32.
    fn tokens(
        &self,
        x: &Tensor,
        grid: Grid,
        sinusoid: &Tensor,
        class: Option<&Tensor>,
        observe: &mut Observer,
    ) -> Result<Tensor, ModelError> {
        // A few rows only: computed in f32 whatever the network's precision.
        let time = match &self.time_embed {
            Some((first, second)) => second.forward(&first.forward(sinusoid, Kind::Float)?.f_silu()?, Kind::Float)?,
            None => sinusoid.shallow_clone(),
        };
        observe.see(|| "t_emb".into(), &time);
        let mut tokens = vec![time.f_unsqueeze(1)?, self.patch_embed.forward(x, grid)?];
        if let Some(table) = &self.class_embed {
            let class = labels(class, self.config.null_class(), x)?;
            tokens.insert(0, table.f_index_select(0, &class)?.f_unsqueeze(1)?);
        }
        let extra = size(self.config.extra_tokens());
        let from = self.config.grid(self.config.image_size, self.config.image_size);
        let positions = resized_rows(&self.position_table, extra, from, grid)?;
        Ok(Tensor::f_cat(&tokens, 1)?.f_add(&positions)?)
    }

    /// The blocks; skips are handed over last in, first out.
    fn run_blocks(&self, tokens: Tensor, observe: &mut Observer) -> Result<Stream, TorchError> {
        let kind = self.kind();
        let middle = self.config.depth / 2;
        let mut stream = Stream::new(tokens);
        let mut skips = Vec::with_capacity(middle);
        for (index, block) in self.blocks.iter().enumerate() {
            if index > middle {
                stream = block.with(|block| block.join(stream, skips.pop(), kind))?;
            }
            let (entered, left) = run_block(block, &stream, kind)?;
            // What enters a block is what the one before it has put out.
            if (1..=middle).contains(&index) {
                skips.push(entered);
            }
            stream = left;
            if observe.looks() {
                observe.see(|| format!("block.{index}"), &stream.settle(Kind::Float)?);
            }
        }
        Ok(stream)
    }

    /// The norm at the end, in the kind of the products.
    pub(crate) fn finish(&self, stream: &Stream) -> Result<Tensor, TorchError> {
        Ok(self.norm.modulate(stream, None, self.kind())?.1)
    }
}

/// Returns the stream that entered and the one that leaves.
fn run_block(block: &Segment<Block>, stream: &Stream, kind: Kind) -> Result<(Tensor, Stream), TorchError> {
    let (inputs, form) = stream.parts();
    let mut outputs = block.run(&inputs, move |block, inputs| {
        let (entered, left) = block.forward(&Stream::from_parts(inputs, form)?.0, kind)?;
        let left = left.parts().0.into_iter().map(Tensor::shallow_clone);
        Ok(left.chain([entered]).collect())
    })?;
    let entered = outputs.pop().ok_or_else(|| TorchError::Libtorch("a block returned nothing".to_owned()))?;
    Ok((entered, Stream::from_parts(&outputs, Block::LEAVES)?.0))
}

impl Backbone for Uvit {
    fn forward(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        self.run(x, &self.time_sinusoid.of(t)?, class, &mut Observer(None))
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn set_recompute(&mut self, recompute: Recompute) {
        let depth = self.blocks.len();
        for (index, block) in self.blocks.iter_mut().enumerate() {
            block.run_again(recompute.block(index, depth));
        }
    }

    fn initialise(&self, seed: u64) -> Result<(), ModelError> {
        initialise(&self.parameters, |spec| specs::init(spec, &self.config), seed)
    }
}

impl BackboneConfig for UvitConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.check()
    }

    fn parameter_specs(&self) -> Vec<ParameterSpec> {
        specs::parameter_specs(self)
    }

    fn build(&self, parameters: Parameters, precision: Precision) -> Result<Box<dyn Backbone>, ModelError> {
        Ok(Box::new(Uvit::new(self.clone(), precision.prepare(parameters))?.with_precision(precision)))
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
        (self.classes > 0 && self.null_class).then_some(self.classes)
    }

    fn size_multiple(&self) -> usize {
        self.patch_size
    }

    fn tokens(&self, height: usize, width: usize) -> usize {
        self.grid(height, width).patches() + self.extra_tokens()
    }

    fn cost(&self, height: usize, width: usize) -> Cost {
        specs::cost(self, height, width)
    }
}
