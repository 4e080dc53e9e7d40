//! Sinusoids of the time, and the embeddings of time, class and position. Source: DiM, section 3.1.

use dim_torch::{Parameters, TorchError};
use tch::{Device, Kind, Tensor};

use crate::{config::DimConfig, linear::Linear, scan_order::Grid, specs::TIME_FREQUENCIES};

/// −ln 10⁴, rounded to f32 where it is used.
const LOG_LOWEST_FREQUENCY: f64 = -9.210_340_371_976_184;

/// What the network sees of the time: two sinusoids, always f32.
pub(crate) struct TimeFeatures {
    /// `[batch, d_model]`: the time token itself, and part of the output's condition.
    pub(crate) token: Tensor,
    /// `[batch, 256]`: what the time embedding starts from.
    pub(crate) embedding: Tensor,
}

/// The frequencies of the sinusoids.
///
/// They are computed once, on the CPU: another device's exponential differs in the last bit of some, which at t near 1000
/// changes a cosine by 6e-5, and a deep network's output by more than all roundings together.
pub(crate) struct TimeFrequencies {
    token: Tensor,
    embedding: Tensor,
}

impl TimeFrequencies {
    /// The frequencies of a network of this configuration, on `device`.
    pub(crate) fn new(config: &DimConfig, device: Device) -> Result<Self, TorchError> {
        Ok(Self {
            token: frequencies(config.d_model)?.to_device(device),
            embedding: frequencies(TIME_FREQUENCIES)?.to_device(device),
        })
    }

    /// The sinusoids of `t`, `[batch]`, in the network's time (0 to 1000).
    pub(crate) fn features(&self, t: &Tensor) -> Result<TimeFeatures, TorchError> {
        Ok(TimeFeatures { token: sinusoids(t, &self.token)?, embedding: sinusoids(t, &self.embedding)? })
    }
}

/// `width / 2` frequencies from 1 to almost 10⁻⁴.
///
/// The order of the f32 operations, here and in [`sinusoids`], is the authors': at t near 1000 another order changes a cosine
/// by 7e-5.
pub(crate) fn frequencies(width: usize) -> Result<Tensor, TorchError> {
    #[allow(clippy::cast_possible_wrap)]
    let half = (width / 2) as i64;
    let index = Tensor::f_arange(half, (Kind::Float, Device::Cpu))?;
    #[allow(clippy::cast_precision_loss)]
    let frequencies = (index * LOG_LOWEST_FREQUENCY).f_div_scalar(half as f64)?.f_exp()?;
    Ok(frequencies)
}

/// Cosines, then sines, of `t` at these frequencies: `[batch, 2 · frequencies]`.
pub(crate) fn sinusoids(t: &Tensor, frequencies: &Tensor) -> Result<Tensor, TorchError> {
    let angles = t.to_kind(Kind::Float).f_unsqueeze(1)?.f_mul(&frequencies.f_unsqueeze(0)?)?;
    Ok(Tensor::f_cat(&[angles.f_cos()?, angles.f_sin()?], -1)?)
}

/// The embeddings that condition the network.
pub(crate) struct Conditioning {
    linear_1: Linear,
    linear_2: Linear,
    class_modulation: Tensor,
    class_token: Tensor,
    modulation: Linear,
}

/// What conditions a forward pass.
pub(crate) struct Condition {
    /// `[batch, d_model]`: embedding of time and class.
    pub(crate) embedding: Tensor,
    /// `[batch, 3, d_model]`: shift, scale and gate that all blocks share.
    pub(crate) modulation: Tensor,
    /// `[batch, d_model]`: the class token.
    pub(crate) class_token: Tensor,
}

impl Conditioning {
    pub(crate) fn new(parameters: &Parameters) -> Result<Self, TorchError> {
        Ok(Self {
            linear_1: Linear::new(parameters, "time_embed.linear_1")?,
            linear_2: Linear::new(parameters, "time_embed.linear_2")?,
            class_modulation: parameters.get("class_embed.modulation")?,
            class_token: parameters.get("class_embed.token")?,
            modulation: Linear::new(parameters, "modulation")?,
        })
    }

    /// `class`: `[batch]`, i64.
    pub(crate) fn forward(&self, time: &TimeFeatures, class: &Tensor) -> Result<Condition, TorchError> {
        // A few rows only: computed in f32 whatever the network's precision.
        let kind = Kind::Float;
        let hidden = self.linear_1.forward(&time.embedding, kind)?.f_silu()?;
        let embedding =
            self.linear_2.forward(&hidden, kind)?.f_add(&self.class_modulation.f_index_select(0, class)?)?;
        let modulation = self.modulation.forward(&embedding.f_silu()?, kind)?;
        let width = embedding.size()[1];
        Ok(Condition {
            modulation: modulation.f_view([-1, 3, width])?,
            class_token: self.class_token.f_index_select(0, class)?,
            embedding,
        })
    }
}

/// The learned positions of the two condition tokens and of the patches.
pub(crate) struct PositionTable {
    table: Tensor,
    grid: Grid,
}

impl PositionTable {
    pub(crate) fn new(parameters: &Parameters, config: &DimConfig) -> Result<Self, TorchError> {
        Ok(Self { table: parameters.get("position_table")?, grid: config.table_grid() })
    }

    /// `[1, 2 + patches, d_model]` for `grid`: the table itself where the grids agree, else its patches resized
    /// bilinearly (half-pixel centres, no antialiasing).
    pub(crate) fn rows(&self, grid: Grid) -> Result<Tensor, TorchError> {
        let table = self.table.f_unsqueeze(0)?;
        if grid == self.grid {
            return Ok(table);
        }
        let width = self.table.size()[1];
        let [old_rows, old_columns, rows, columns] = [self.grid.rows, self.grid.columns, grid.rows, grid.columns]
            .map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        let patches = table.f_narrow(1, 2, old_rows * old_columns)?;
        let resized = patches
            .f_view([1, old_rows, old_columns, width])?
            .f_permute([0, 3, 1, 2])?
            .f_upsample_bilinear2d([rows, columns], false, None, None)?
            .f_permute([0, 2, 3, 1])?
            .f_reshape([1, rows * columns, width])?;
        Ok(Tensor::f_cat(&[table.f_narrow(1, 0, 2)?, resized], 1)?)
    }
}
