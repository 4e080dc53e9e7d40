//! The embedding of time and class that every residual block reads.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::config::UnetConfig;
use crate::{
    ModelError,
    layers::{Linear, Sinusoid},
};

/// Sinusoids, a network of two layers, and a row for each label; in f32 whatever the network's precision.
pub(super) struct Embedding {
    sinusoid: Sinusoid,
    linear_1: Linear,
    linear_2: Linear,
    labels: Option<Tensor>,
    null_label: Option<i64>,
}

impl Embedding {
    pub(super) fn new(parameters: &Parameters, config: &UnetConfig) -> Result<Self, TorchError> {
        Ok(Self {
            sinusoid: Sinusoid::new(config.model_channels, parameters.device())?,
            linear_1: Linear::new(parameters, "time_embed.0")?,
            linear_2: Linear::new(parameters, "time_embed.2")?,
            labels: (config.labels() > 0).then(|| parameters.get("label_emb.weight")).transpose()?,
            null_label: config.null_label().and_then(|label| i64::try_from(label).ok()),
        })
    }

    /// Cosines, then sines of `t`, `[batch]`: `[batch, model_channels]`.
    pub(super) fn time_features(&self, t: &Tensor) -> Result<Tensor, TorchError> {
        self.sinusoid.of(t)
    }

    /// `features` of the time and `class`, `[batch]` i64 → `[batch, embedding]`.
    pub(super) fn forward(&self, features: &Tensor, class: Option<&Tensor>) -> Result<Tensor, ModelError> {
        let hidden = self.linear_1.forward(features, Kind::Float)?.f_silu()?;
        let time = self.linear_2.forward(&hidden, Kind::Float)?;
        let wrong = |expected: &str, got: &str| ModelError::Input {
            argument: "class",
            expected: expected.to_owned(),
            got: got.to_owned(),
        };
        match (&self.labels, class, self.null_label) {
            (Some(labels), Some(class), _) => Ok(time.f_add(&labels.f_index_select(0, class)?)?),
            (Some(labels), None, Some(null)) => Ok(time.f_add(&labels.f_narrow(0, null, 1)?)?),
            (Some(_), None, None) => Err(wrong("given to a network that has no null class", "none")),
            (None, None, _) => Ok(time),
            (None, Some(_), _) => Err(wrong("none for a network without classes", "labels")),
        }
    }
}
