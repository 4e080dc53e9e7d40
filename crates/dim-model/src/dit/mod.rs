//! DiT, the diffusion transformer. Source: Peebles & Xie 2022, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748).
//!
//! Parameters have their published names, so that published checkpoints load as they are.

mod block;
mod config;
mod position;
mod specs;

use dim_torch::{ParameterSpec, Parameters, TorchError};
use tch::{Kind, Tensor};

pub use config::DitConfig;

use crate::{
    Backbone, BackboneConfig, ConfigError, Cost, ModelError, Precision, Recompute,
    grid::{Grid, check_times, grid_of_input, labels, size},
    init::initialise,
    layers::{Linear, Norm, PatchEmbed, Segment, Sinusoid, Stream, unpatchify},
    observer::Observer,
    weights::PublishedNames,
};
use block::{Block, NORM_EPS};
use position::PositionTable;

/// Channels that the published sampling code guides; it leaves the others as they are.
const GUIDED_CHANNELS: i64 = 3;

/// The first parts of the names in a checkpoint. It also lists the table of positions, which is computed here.
pub(crate) const PUBLISHED_NAMES: PublishedNames = PublishedNames {
    first_parts: &["pos_embed", "x_embedder", "t_embedder", "y_embedder", "blocks", "final_layer"],
    computed: &["pos_embed"],
};

/// A diffusion transformer. Its tensors are views of the [`Parameters`] that it owns.
pub struct Dit {
    config: DitConfig,
    precision: Precision,
    parameters: Parameters,
    patch_embed: PatchEmbed,
    positions: PositionTable,
    time_sinusoid: Sinusoid,
    time_1: Linear,
    time_2: Linear,
    class_embed: Tensor,
    pub(crate) blocks: Vec<Segment<Block>>,
    final_modulation: Linear,
    final_norm: Norm,
    final_linear: Linear,
}

impl Dit {
    /// The network of `config` over `parameters`, which must be those of its `parameter_specs`.
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    pub fn new(config: DitConfig, parameters: Parameters) -> Result<Self, ModelError> {
        config.check()?;
        let blocks = (0..config.depth)
            .map(|index| Ok(Segment::new(Block::new(&parameters, &config, index)?)))
            .collect::<Result<_, TorchError>>()?;
        let linear = |name| Linear::new(&parameters, name);
        Ok(Self {
            precision: Precision::F32,
            patch_embed: PatchEmbed::new(&parameters, "x_embedder.proj")?,
            positions: PositionTable::default(),
            time_sinusoid: Sinusoid::new(specs::TIME_FREQUENCIES, parameters.device())?,
            time_1: linear("t_embedder.mlp.0")?,
            time_2: linear("t_embedder.mlp.2")?,
            class_embed: parameters.get("y_embedder.embedding_table.weight")?,
            blocks,
            final_modulation: linear("final_layer.adaLN_modulation.1")?,
            final_norm: Norm::plain_layer(size(config.d_model), NORM_EPS),
            final_linear: linear("final_layer.linear")?,
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
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// As [`Backbone::forward`], with the variance values behind the noise where the network has them:
    /// `[batch, out_channels, row, column]`.
    ///
    /// # Errors
    /// As [`Backbone::forward`].
    pub fn forward_all(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        self.run(x, &self.time_sinusoid.of(t)?, class, &mut Observer(None))
    }

    /// Classifier-free guidance as the published sampling code has it: `x`'s first half is taken twice, labels are first those
    /// wanted, then "no class"; both halves get `e_u + cfg_scale (e_c − e_u)` in the first three channels, and keep the rest.
    ///
    /// # Errors
    /// As [`Backbone::forward`].
    pub fn forward_with_cfg(
        &self,
        x: &Tensor,
        t: &Tensor,
        class: &Tensor,
        cfg_scale: f64,
    ) -> Result<Tensor, ModelError> {
        let half = x.f_narrow(0, 0, x.size()[0] / 2)?;
        let output = self.forward_all(&Tensor::f_cat(&[&half, &half], 0)?, t, Some(class))?;
        let rest = output.size()[1] - GUIDED_CHANNELS;
        let noise = output.f_narrow(1, 0, GUIDED_CHANNELS)?.f_chunk(2, 0)?;
        let guided = &noise[1] + cfg_scale * (&noise[0] - &noise[1]);
        let guided = Tensor::f_cat(&[&guided, &guided], 0)?;
        Ok(Tensor::f_cat(&[guided, output.f_narrow(1, GUIDED_CHANNELS, rest)?], 1)?)
    }

    /// Of the wide products.
    pub(crate) fn kind(&self) -> Kind {
        self.precision.kind()
    }

    /// The sinusoid of `t`, `[batch]`.
    pub(crate) fn sinusoid(&self, t: &Tensor) -> Result<Tensor, TorchError> {
        self.time_sinusoid.of(t)
    }

    /// The table of positions, `[1, patch, d_model]`.
    pub(crate) fn position_rows(&self, grid: Grid) -> Result<Tensor, TorchError> {
        self.positions.rows(grid, self.config.d_model, self.parameters.device())
    }

    /// The forward pass, from the sinusoid on.
    pub(crate) fn run(
        &self,
        x: &Tensor,
        sinusoid: &Tensor,
        class: Option<&Tensor>,
        observe: &mut Observer,
    ) -> Result<Tensor, ModelError> {
        let config = &self.config;
        let kind = self.kind();
        let grid = grid_of_input(x, config.in_channels, config.patch_size)?;
        check_times(sinusoid, x)?;
        let class = labels(class, self.config.null_class(), x)?;

        // A few rows only: computed in f32 whatever the network's precision.
        let time = self.time_2.forward(&self.time_1.forward(sinusoid, Kind::Float)?.f_silu()?, Kind::Float)?;
        let condition = time.f_add(&self.class_embed.f_index_select(0, &class)?)?;
        let tokens = self.patch_embed.forward(x, grid)?.f_add(&self.position_rows(grid)?)?;
        observe.see(|| "t_emb".into(), &time);
        observe.see(|| "cond".into(), &condition);
        observe.see(|| "tokens".into(), &tokens);

        let active = condition.f_silu()?;
        let mut stream = Stream::new(tokens);
        for (index, block) in self.blocks.iter().enumerate() {
            stream = run_block(block, &stream, &active, kind)?;
            if observe.looks() {
                observe.see(|| format!("block.{index}"), &stream.settle(Kind::Float)?);
            }
        }
        let output = self.finish(&stream, &active)?;
        observe.see(|| "final".into(), &output);
        Ok(unpatchify(&output, grid, config.patch_size)?)
    }

    /// Norm, modulation and linear map at the end; `condition` as the blocks take it. `[batch, patch, values of a patch]`, f32.
    pub(crate) fn finish(&self, stream: &Stream, condition: &Tensor) -> Result<Tensor, TorchError> {
        let kind = self.kind();
        let modulation = self.final_modulation.forward(condition, kind)?.to_kind(Kind::Float).f_chunk(2, -1)?;
        let (_, normed) = self.final_norm.modulate(stream, Some((&modulation[0], &modulation[1])), kind)?;
        Ok(self.final_linear.forward(&normed, kind)?.to_kind(Kind::Float))
    }
}

/// Returns the stream that leaves.
fn run_block(block: &Segment<Block>, stream: &Stream, active: &Tensor, kind: Kind) -> Result<Stream, TorchError> {
    let (mut inputs, form) = stream.parts();
    inputs.push(active);
    let outputs = block.run(&inputs, move |block, inputs| {
        let (stream, rest) = Stream::from_parts(inputs, form)?;
        let left = block.forward(&stream, &rest[0], kind)?;
        Ok(left.parts().0.into_iter().map(Tensor::shallow_clone).collect())
    })?;
    Ok(Stream::from_parts(&outputs, Block::LEAVES)?.0)
}

impl Backbone for Dit {
    fn forward(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        let output = self.forward_all(x, t, class)?;
        Ok(output.f_narrow(1, 0, size(self.config.in_channels))?)
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
        initialise(&self.parameters, specs::init, seed)
    }
}

impl BackboneConfig for DitConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.check()
    }

    fn parameter_specs(&self) -> Vec<ParameterSpec> {
        specs::parameter_specs(self)
    }

    fn build(&self, parameters: Parameters, precision: Precision) -> Result<Box<dyn Backbone>, ModelError> {
        Ok(Box::new(Dit::new(self.clone(), precision.prepare(parameters))?.with_precision(precision)))
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
        self.null_class.then_some(self.classes)
    }

    fn size_multiple(&self) -> usize {
        self.patch_size
    }

    fn tokens(&self, height: usize, width: usize) -> usize {
        self.grid(height, width).patches()
    }

    fn cost(&self, height: usize, width: usize) -> Cost {
        specs::cost(self, height, width)
    }
}
