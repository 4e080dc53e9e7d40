//! The network: from a noisy image, its time and its class to the predicted noise.

mod authors_config;
mod block;
mod config;
mod cost;
mod embedding;
mod init;
mod mamba;
mod run_blocks;
mod scan_order;
mod sequence_parallel;
mod skip_tuning;
mod specs;
mod tokens;

use std::sync::{Mutex, PoisonError};

use dim_torch::{ParameterSpec, Parameters, TokenMap, TorchError, distributed::World, ops::MambaKeeps};
use tch::{Kind, Tensor};

pub use config::{DimConfig, Initialisation, LongSkip, Padding};
pub(crate) use embedding::TimeFeatures;
pub use scan_order::{ScanDirection, directions};
pub use skip_tuning::SkipTuning;

use crate::{
    Backbone, BackboneConfig, ConfigError, Cost, ModelError, Precision, Recompute,
    grid::{Grid, check_times, grid_of_input, labels},
    init::initialise,
    layers::{Join, Linear, Norm, PatchEmbed, Segment, Stream, unpatchify},
    observer::Observer,
};
use block::Block;
use embedding::{Condition, Conditioning, PositionTable, TimeSinusoids};
use sequence_parallel::{SequenceParallel, plan::check_split};
use tokens::{LocalConv, Sequencer, patches_of};

/// Choices of one forward pass that training does not make.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardOptions {
    /// Scales the long skips.
    pub skip_tuning: Option<SkipTuning>,
}

/// Diffusion Mamba. Its tensors are views of the [`Parameters`] that it owns.
pub struct Dim {
    config: DimConfig,
    precision: Precision,
    parameters: Parameters,
    patch_embed: PatchEmbed,
    time_sinusoids: TimeSinusoids,
    conditioning: Conditioning,
    position_table: PositionTable,
    sequencer: Sequencer,
    local_conv_in: Option<LocalConv>,
    blocks: Vec<Segment<Block>>,
    /// Of each block in the decoder, the linear map of stream and long skip that replaces the stream; none without long skips.
    joins: Vec<Segment<Join>>,
    modulation_tables: Vec<Tensor>,
    directions: Vec<ScanDirection>,
    local_conv_out: Option<LocalConv>,
    norm_out: Norm,
    output_modulation: Linear,
    output_proj: Linear,
    /// The token maps of the grid seen last: a run hardly ever changes its size.
    token_maps: Mutex<Option<(Grid, [TokenMap; 4])>>,
    /// Where every image's tokens are split over several processes.
    sequence_parallel: Option<SequenceParallel>,
}

impl Dim {
    /// The network of `config` over `parameters`, which must be those of [`DimConfig::parameter_specs`].
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    pub fn new(config: DimConfig, parameters: Parameters) -> Result<Self, ModelError> {
        config.check()?;
        let local_conv = |name| config.local_convolution.then(|| LocalConv::new(&parameters, name)).transpose();
        let blocks = (0..config.depth)
            .map(|index| {
                Ok(Segment::of_unit(Block::new(&parameters, &config, index)?, parameters.unit(&block_unit(index))))
            })
            .collect::<Result<_, TorchError>>()?;
        let joins = (config.first_decoder_block()..config.depth)
            .filter_map(|index| {
                let name = format!("blocks.{index}.long_skip");
                let join = match config.long_skip() {
                    LongSkip::OneLinear => Join::one(&parameters, &name),
                    LongSkip::TwoLinears => Join::two(&parameters, &name),
                    LongSkip::None => return None,
                };
                Some(join.map(|join| Segment::of_unit(join, parameters.unit(&join_unit(index)))))
            })
            .collect::<Result<_, TorchError>>()?;
        Ok(Self {
            precision: Precision::F32,
            patch_embed: PatchEmbed::new(&parameters, "patch_embed")?,
            time_sinusoids: TimeSinusoids::new(&config, parameters.values().device())?,
            conditioning: Conditioning::new(&parameters)?,
            position_table: PositionTable::new(&parameters, &config)?,
            sequencer: Sequencer::new(&parameters, &config)?,
            local_conv_in: local_conv("local_conv_in")?,
            blocks,
            joins,
            modulation_tables: (0..config.depth)
                .map(|index| parameters.get(&format!("blocks.{index}.modulation_table")))
                .collect::<Result<_, _>>()?,
            directions: directions(config.depth, config.scan_directions),
            local_conv_out: local_conv("local_conv_out")?,
            norm_out: Norm::rms(&parameters, "norm_out")?,
            output_modulation: Linear::new(&parameters, "output.modulation")?,
            output_proj: Linear::new(&parameters, "output.proj")?,
            token_maps: Mutex::new(None),
            sequence_parallel: None,
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
    pub fn config(&self) -> &DimConfig {
        &self.config
    }

    /// As [`Backbone::forward`], with choices that training does not make.
    ///
    /// # Errors
    /// As [`Backbone::forward`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        t: &Tensor,
        class: Option<&Tensor>,
        options: ForwardOptions,
    ) -> Result<Tensor, ModelError> {
        let time = self.time_features(t)?;
        match &self.sequence_parallel {
            None => self.run(x, &time, class, options, &mut Observer(None)),
            Some(parallel) => self.run_in_strips(parallel, x, &time, class, options),
        }
    }

    /// The sinusoids of `t`, `[batch]`.
    pub(crate) fn time_features(&self, t: &Tensor) -> Result<TimeFeatures, TorchError> {
        self.time_sinusoids.features(t)
    }

    /// The forward pass, from the sinusoids on.
    pub(crate) fn run(
        &self,
        x: &Tensor,
        time: &TimeFeatures,
        class: Option<&Tensor>,
        options: ForwardOptions,
        observe: &mut Observer,
    ) -> Result<Tensor, ModelError> {
        let grid = grid_of_input(x, self.config.in_channels, self.config.patch_size)?;
        let (rows, columns) = grid.sizes();
        check_times(&time.token, x)?;
        let class = labels(class, Some(self.config.null_label()), x)?;

        let condition = self.conditioning.forward(time, &class)?;
        let patches = self.patch_embed.forward(x, grid)?;
        let condition_tokens = Tensor::f_stack(&[&time.token, &condition.class_token], 1)?;
        observe.see(|| "patch_embed".into(), &patches);
        observe.see(|| "time_embed.features".into(), &time.embedding);
        observe.see(|| "time_token".into(), &time.token);
        observe.see(|| "class_token".into(), &condition.class_token);
        observe.see(|| "condition".into(), &condition.embedding);
        observe.see(|| "modulation".into(), &condition.modulation);

        let tokens = Tensor::f_cat(&[condition_tokens, patches], 1)?.f_add(&self.position_table.rows(grid)?)?;
        observe.see(|| "tokens".into(), &tokens);
        let patches = tokens.f_narrow(1, 2, rows * columns)?.f_unflatten(1, [rows, columns])?;
        let patches = with_local_conv(self.local_conv_in.as_ref(), patches)?;
        let sequence = self.sequencer.assemble(&tokens.f_narrow(1, 0, 2)?, &patches, grid)?;
        observe.see(|| "sequence".into(), &sequence);

        let stream = self.run_blocks(sequence, &condition.modulation, grid, options, observe)?;

        let patches = patches_of(&stream, grid, self.config.padding)?;
        let patches = with_local_conv(self.local_conv_out.as_ref(), patches)?;
        let output = self.output(patches, time, &condition, observe)?;
        Ok(unpatchify(&output, grid, self.config.patch_size)?)
    }

    /// From `patches`, `[batch, row, column, d_model]`, to the values of each, `[batch, patch, patch row · patch column · channel]`.
    fn output(
        &self,
        patches: Tensor,
        time: &TimeFeatures,
        condition: &Condition,
        observe: &mut Observer,
    ) -> Result<Tensor, TorchError> {
        let patches = patches.f_flatten(1, 2)?;
        observe.see(|| "local_conv_out".into(), &patches);
        if observe.looks() {
            observe.see(|| "norm_out".into(), &self.norm_out.forward(&patches)?);
        }
        let modulation = time.token.f_add(&condition.class_token)?.f_silu()?;
        let modulation = self.output_modulation.forward(&modulation, Kind::Float)?;
        observe.see(|| "output.modulation".into(), &modulation);
        let halves = modulation.f_chunk(2, -1)?;
        let patches = Stream::new(patches);
        let (_, modulated) = self.norm_out.modulate(&patches, Some((&halves[0], &halves[1])), Kind::Float)?;
        let output = self.output_proj.forward(&modulated, Kind::Float)?;
        observe.see(|| "output.proj".into(), &output);
        Ok(output)
    }

    fn token_maps(&self, grid: Grid) -> [TokenMap; 4] {
        // A poisoned lock only means that another thread panicked here; the maps are rebuilt or whole.
        let mut cached = self.token_maps.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((known, maps)) if *known == grid => maps.clone(),
            _ => {
                let maps = ScanDirection::ALL.map(|direction| direction.token_map(grid, self.config.padding));
                *cached = Some((grid, maps.clone()));
                maps
            }
        }
    }
}

/// Beginning of the names of what block `index` consists of, but for its long skip.
fn block_unit(index: usize) -> String {
    format!("blocks.{index}.")
}

/// The same of its long skip.
fn join_unit(index: usize) -> String {
    format!("blocks.{index}.long_skip.")
}

fn with_local_conv(convolution: Option<&LocalConv>, patches: Tensor) -> Result<Tensor, TorchError> {
    match convolution {
        Some(convolution) => convolution.forward(&patches),
        None => Ok(patches),
    }
}

impl Backbone for Dim {
    fn forward(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        self.forward_with(x, t, class, ForwardOptions::default())
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn set_recompute(&mut self, recompute: Recompute) {
        let depth = self.blocks.len();
        let keeps = if recompute.scan { MambaKeeps::Nothing } else { MambaKeeps::ScanOutput };
        for (index, block) in self.blocks.iter_mut().enumerate() {
            block.run_again(recompute.block(index, depth));
            block.with(|block| block.mamba.set_keeps(keeps));
        }
    }

    fn split_sequence(&mut self, world: &World) -> Result<(), ModelError> {
        self.sequence_parallel = Some(SequenceParallel::new(world.clone()));
        Ok(())
    }

    fn initialise(&self, seed: u64) -> Result<(), ModelError> {
        initialise(&self.parameters, |spec| init::rule(spec, &self.config), seed)
    }
}

impl BackboneConfig for DimConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.check()
    }

    fn parameter_specs(&self) -> Vec<ParameterSpec> {
        specs::parameter_specs(self)
    }

    fn build(&self, parameters: Parameters, precision: Precision) -> Result<Box<dyn Backbone>, ModelError> {
        Ok(Box::new(Dim::new(self.clone(), precision.prepare(parameters))?.with_precision(precision)))
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
        Some(self.null_label())
    }

    fn size_multiple(&self) -> usize {
        self.patch_size
    }

    fn tokens(&self, height: usize, width: usize) -> usize {
        self.grid(height, width).tokens(self.padding)
    }

    fn parameter_units(&self) -> Vec<String> {
        let joins = (self.first_decoder_block()..self.depth).filter(|_| self.long_skip() != LongSkip::None);
        (0..self.depth).map(block_unit).chain(joins.map(join_unit)).collect()
    }

    fn check_split(&self, height: usize, width: usize, processes: usize) -> Result<(), ModelError> {
        check_split(self.grid(height, width), self, processes)
    }

    fn cost(&self, height: usize, width: usize) -> Cost {
        cost::cost(self, self.grid(height, width))
    }
}
