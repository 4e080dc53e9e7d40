//! Sinusoids of the time, and the embeddings of time, class and position. Source: DiM, section 3.1.

use dim_torch::{Parameters, TorchError};
use tch::{Device, Kind, Tensor};

use super::{config::DimConfig, specs::TIME_FREQUENCIES};
use crate::{
    grid::Grid,
    layers::{Linear, Sinusoid, resized_rows},
};

/// What the network sees of the time: two sinusoids, always f32.
pub(crate) struct TimeFeatures {
    /// `[batch, d_model]`: the time token itself, and part of the output's condition.
    pub(crate) token: Tensor,
    /// `[batch, 256]`: what the time embedding starts from.
    pub(crate) embedding: Tensor,
}

/// The two sinusoids of a network.
pub(crate) struct TimeSinusoids {
    token: Sinusoid,
    embedding: Sinusoid,
}

impl TimeSinusoids {
    /// The sinusoids of a network of this configuration, on `device`.
    pub(crate) fn new(config: &DimConfig, device: Device) -> Result<Self, TorchError> {
        let embedding = Sinusoid::new(TIME_FREQUENCIES, device)?;
        Ok(Self { token: Sinusoid::new(config.d_model, device)?, embedding })
    }

    /// Those of `t`, `[batch]`, in the network's time (0 to 1000).
    pub(crate) fn features(&self, t: &Tensor) -> Result<TimeFeatures, TorchError> {
        Ok(TimeFeatures { token: self.token.of(t)?, embedding: self.embedding.of(t)? })
    }
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

    /// `[1, 2 + patches, d_model]` for `grid`.
    pub(crate) fn rows(&self, grid: Grid) -> Result<Tensor, TorchError> {
        resized_rows(&self.table.f_unsqueeze(0)?, 2, self.grid, grid)
    }
}
