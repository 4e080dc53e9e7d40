//! The network: from a noisy image, its time and its class to the predicted noise.

use std::sync::{Mutex, PoisonError};

use dim_torch::{Parameters, TokenMap, TorchError};
use tch::{Kind, Tensor};

use crate::{
    ModelError, SkipTuning,
    block::{Block, Stream},
    config::DimConfig,
    embedding::{Conditioning, PositionTable, TimeFeatures, TimeFrequencies},
    init,
    linear::Linear,
    norm::RmsNorm,
    scan_order::{Grid, ScanDirection, directions},
    tokens::{LocalConv, Sequencer, patches_of, sizes},
};

/// In what the wide products are computed; norms, states, modulation and the residual stream are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Everything in f32.
    F32,
    /// Products, convolution and scan inputs in bf16.
    Bf16,
    /// As [`Precision::Bf16`], but convolution and scan compute in f32 between the same roundings: the plain low-precision
    /// evaluation that [`crate::verify`] measures the kernels of bf16 by. Runs on every device.
    Bf16Plain,
}

impl Precision {
    /// Of the wide products and of what lies between them and the kernels.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 | Self::Bf16Plain => Kind::BFloat16,
        }
    }

    /// Of what the kernels of convolution and scan read and write.
    pub(crate) fn kernel_kind(self) -> Kind {
        match self {
            Self::F32 | Self::Bf16Plain => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// Choices of one forward pass that training does not make.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardOptions {
    /// Scales the long skips.
    pub skip_tuning: Option<SkipTuning>,
}

/// Looks at an intermediate: its name, and the tensor in canonical token order.
type Look<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// Shown every intermediate; by default nobody looks.
pub(crate) struct Observer<'a>(pub(crate) Option<&'a mut Look<'a>>);

impl Observer<'_> {
    /// Whether anybody looks: what only observers need is computed then alone.
    pub(crate) fn looks(&self) -> bool {
        self.0.is_some()
    }

    /// Shows `tensor`; its name is made only if somebody looks.
    pub(crate) fn see(&mut self, name: impl FnOnce() -> String, tensor: &Tensor) {
        if let Some(observer) = &mut self.0 {
            observer(&name(), tensor);
        }
    }
}

/// Diffusion Mamba. Its tensors are views of the [`Parameters`] that it owns.
pub struct Dim {
    config: DimConfig,
    precision: Precision,
    parameters: Parameters,
    patch_embed_weight: Tensor,
    patch_embed_bias: Tensor,
    time_frequencies: TimeFrequencies,
    conditioning: Conditioning,
    position_table: PositionTable,
    sequencer: Sequencer,
    local_conv_in: LocalConv,
    blocks: Vec<Block>,
    directions: Vec<ScanDirection>,
    local_conv_out: LocalConv,
    norm_out: RmsNorm,
    output_modulation: Linear,
    output_proj: Linear,
    /// The token maps of the grid seen last: a run hardly ever changes its size.
    token_maps: Mutex<Option<(Grid, [TokenMap; 4])>>,
}

impl Dim {
    /// The network of `config` over `parameters`, which must be those of [`DimConfig::parameter_specs`].
    ///
    /// # Errors
    /// An invalid configuration, or a parameter that is missing.
    pub fn new(config: DimConfig, parameters: Parameters) -> Result<Self, ModelError> {
        config.validate()?;
        let blocks =
            (0..config.depth).map(|index| Block::new(&parameters, &config, index)).collect::<Result<_, _>>()?;
        Ok(Self {
            precision: Precision::F32,
            patch_embed_weight: parameters.get("patch_embed.weight")?,
            patch_embed_bias: parameters.get("patch_embed.bias")?,
            time_frequencies: TimeFrequencies::new(&config, parameters.values().device())?,
            conditioning: Conditioning::new(&parameters)?,
            position_table: PositionTable::new(&parameters, &config)?,
            sequencer: Sequencer::new(&parameters, &config)?,
            local_conv_in: LocalConv::new(&parameters, "local_conv_in")?,
            blocks,
            directions: directions(config.depth),
            local_conv_out: LocalConv::new(&parameters, "local_conv_out")?,
            norm_out: RmsNorm::new(&parameters, "norm_out")?,
            output_modulation: Linear::new(&parameters, "output.modulation")?,
            output_proj: Linear::new(&parameters, "output.proj")?,
            token_maps: Mutex::new(None),
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

    /// The network's parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Draws fresh weights; each parameter's depend on `seed` and its name alone.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn initialise(&self, seed: u64) -> Result<(), ModelError> {
        init::initialise(&self.parameters, &self.config, seed)
    }

    /// Predicts the noise in `x`, `[batch, channel, row, column]`, at network time `t`, `[batch]` (0 to 1000), for
    /// `class`, `[batch]` i64 (`None`: no class). Any size that the patch divides is taken.
    ///
    /// # Errors
    /// A shape, type or label that does not fit, named in the error.
    pub fn forward(&self, x: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        let time = self.time_features(t)?;
        self.run(x, &time, class, ForwardOptions::default(), &mut Observer(None))
    }

    /// As [`Dim::forward`], with choices that training does not make.
    ///
    /// # Errors
    /// As [`Dim::forward`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        t: &Tensor,
        class: Option<&Tensor>,
        options: ForwardOptions,
    ) -> Result<Tensor, ModelError> {
        let time = self.time_features(t)?;
        self.run(x, &time, class, options, &mut Observer(None))
    }

    /// The sinusoids of `t`, `[batch]`.
    pub(crate) fn time_features(&self, t: &Tensor) -> Result<TimeFeatures, TorchError> {
        self.time_frequencies.features(t)
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
        let grid = self.check(x, time, class)?;
        let (rows, columns) = sizes(grid);
        let batch = x.size()[0];
        let class = match class {
            Some(class) => class.shallow_clone(),
            None => Tensor::f_full([batch], label(self.config.null_class()), (Kind::Int64, x.device()))?,
        };

        let condition = self.conditioning.forward(time, &class)?;
        let patches = self.embed_patches(x, grid)?;
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
        let patches = self.local_conv_in.forward(&patches)?;
        let sequence = self.sequencer.assemble(&tokens.f_narrow(1, 0, 2)?, &patches, grid)?;
        observe.see(|| "sequence".into(), &sequence);

        let stream = self.run_blocks(sequence, &condition.modulation, grid, options, observe)?;

        let patches = self.local_conv_out.forward(&patches_of(&stream, grid)?)?.f_flatten(1, 2)?;
        observe.see(|| "local_conv_out".into(), &patches);
        if observe.looks() {
            observe.see(|| "norm_out".into(), &self.norm_out.forward(&patches)?);
        }
        let modulation = time.token.f_add(&condition.class_token)?.f_silu()?;
        let modulation = self.output_modulation.forward(&modulation, Kind::Float)?;
        observe.see(|| "output.modulation".into(), &modulation);
        let halves = modulation.f_chunk(2, -1)?;
        let (_, modulated) = self.norm_out.modulate(&patches, None, (&halves[0], &halves[1]), Kind::Float)?;
        let output = self.output_proj.forward(&modulated, Kind::Float)?;
        observe.see(|| "output.proj".into(), &output);
        self.unpatchify(&output, grid)
    }

    /// The blocks, encoder to decoder; skips are handed over last in, first out.
    fn run_blocks(
        &self,
        sequence: Tensor,
        modulation: &Tensor,
        grid: Grid,
        options: ForwardOptions,
        observe: &mut Observer,
    ) -> Result<Tensor, TorchError> {
        let kind = self.precision.kind();
        let maps = self.token_maps(grid);
        let first_decoder_block = self.config.first_decoder_block();
        let mut stream = Stream::new(sequence);
        let mut skips = Vec::new();
        for (index, (block, direction)) in self.blocks.iter().zip(&self.directions).enumerate() {
            if index >= first_decoder_block {
                // Only linear maps read it: those of this block and, of the last encoder block's stream, as a skip.
                let settled = stream.settle(kind)?;
                if index == first_decoder_block {
                    skips.push(settled.shallow_clone());
                }
                let mut skip = skips.pop().unwrap_or_else(|| settled.shallow_clone());
                if let Some(tuning) = options.skip_tuning {
                    // Not in place: a skip shares its memory with the stream that it was taken from.
                    skip = &skip * tuning.weight(index, first_decoder_block, self.config.depth);
                }
                stream = Stream::new(block.join(settled, &skip, kind)?);
            }
            let (entered, left) =
                block.forward(&stream, modulation, &maps[*direction as usize], self.precision, observe)?;
            // What enters a block is what the one before it has put out; the first block's output is no skip.
            if (2..first_decoder_block).contains(&index) {
                skips.push(entered);
            }
            stream = left;
        }
        stream.settle(Kind::Float)
    }

    fn token_maps(&self, grid: Grid) -> [TokenMap; 4] {
        // A poisoned lock only means that another thread panicked here; the maps are rebuilt or whole.
        let mut cached = self.token_maps.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((known, maps)) if *known == grid => maps.clone(),
            _ => {
                let maps = ScanDirection::ALL.map(|direction| direction.token_map(grid));
                *cached = Some((grid, maps.clone()));
                maps
            }
        }
    }

    /// `[batch, channel, row, column]` → `[batch, patch, d_model]`.
    ///
    /// The patch convolution as a matrix product whose first input is 1 and whose first weight is the bias: it sums the
    /// bias, then the pixels by row, column and channel, on every processor. The published results were summed in this
    /// order; another one moves an embedding by a rounding, which nine blocks amplify a hundredfold.
    fn embed_patches(&self, x: &Tensor, grid: Grid) -> Result<Tensor, TorchError> {
        let (rows, columns) = sizes(grid);
        let (patch, channels) = (label(self.config.patch_size), label(self.config.in_channels));
        let pixels = x
            .to_kind(Kind::Float)
            .f_reshape([-1, channels, rows, patch, columns, patch])?
            .f_permute([0, 2, 4, 3, 5, 1])?
            .f_reshape([-1, rows * columns, patch * patch * channels])?;
        let ones = pixels.f_narrow(2, 0, 1)?.f_ones_like()?;
        let weight = self.patch_embed_weight.f_permute([0, 2, 3, 1])?.f_flatten(1, -1)?;
        let weight = Tensor::f_cat(&[self.patch_embed_bias.f_unsqueeze(1)?, weight], 1)?;
        Ok(Tensor::f_cat(&[ones, pixels], 2)?.f_linear(&weight, None::<&Tensor>)?)
    }

    /// `[batch, patch, patch row · patch column · channel]` → `[batch, channel, row, column]`.
    fn unpatchify(&self, output: &Tensor, grid: Grid) -> Result<Tensor, ModelError> {
        let (rows, columns) = sizes(grid);
        let (patch, channels) = (label(self.config.patch_size), label(self.config.in_channels));
        Ok(output.f_view([-1, rows, columns, patch, patch, channels])?.f_permute([0, 5, 1, 3, 2, 4])?.f_reshape([
            -1,
            channels,
            rows * patch,
            columns * patch,
        ])?)
    }

    /// Checks the inputs and returns the patch grid.
    fn check(&self, x: &Tensor, time: &TimeFeatures, class: Option<&Tensor>) -> Result<Grid, ModelError> {
        let wrong = |argument, expected: String, got: String| Err(ModelError::Input { argument, expected, got });
        let patch = self.config.patch_size;
        let size = x.size();
        let shape = format!("of shape {size:?}");
        let [batch, channels, height, width] = size[..] else {
            return wrong("x", "[batch, channel, row, column]".into(), shape);
        };
        if batch == 0 || channels != label(self.config.in_channels) {
            return wrong("x", format!("at least one image of {} channels", self.config.in_channels), shape);
        }
        let side = |value: i64| usize::try_from(value).ok().filter(|value| *value > 0 && value.is_multiple_of(patch));
        let (Some(height), Some(width)) = (side(height), side(width)) else {
            return wrong("x", format!("of height and width that are multiples of the patch size {patch}"), shape);
        };
        if time.token.size()[0] != batch {
            return wrong("t", format!("[batch] = [{batch}]"), format!("[{}]", time.token.size()[0]));
        }
        if let Some(class) = class
            && (class.size() != [batch] || class.kind() != Kind::Int64)
        {
            return wrong("class", format!("i64 [{batch}]"), format!("{:?} {:?}", class.kind(), class.size()));
        }
        Ok(Grid { rows: height / patch, columns: width / patch })
    }
}

/// A size as libtorch counts it.
fn label(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
