//! Which of the published transformers a file is about, and what the checks ask of both.

use dim_torch::{Parameters, TorchError};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::transformer::own_grid;
use crate::{
    Backbone, ConfigError, Dit, DitConfig, ModelConfig, ModelError, Precision, Uvit, UvitConfig, layers::Stream,
    observer::Observer,
};

/// One of the published transformers.
pub(super) enum Network {
    Dit(Dit),
    Uvit(Uvit),
}

impl Network {
    pub(super) fn new(config: &ModelConfig, parameters: Parameters, precision: Precision) -> Result<Self, ModelError> {
        match config {
            ModelConfig::Dit(config) => Ok(Self::Dit(Dit::new(config.clone(), parameters)?.with_precision(precision))),
            ModelConfig::Uvit(config) => {
                Ok(Self::Uvit(Uvit::new(config.clone(), parameters)?.with_precision(precision)))
            }
            other => Err(ModelError::Input {
                argument: "config",
                expected: "that of a DiT or a U-ViT".into(),
                got: format!("one of {}", other.backbone()),
            }),
        }
    }

    /// Of outputs and intermediates, absolute.
    pub(super) fn tolerance(&self) -> f64 {
        match self {
            Self::Dit(_) => 1e-4,
            Self::Uvit(_) => 5e-5,
        }
    }

    pub(super) fn parameters(&self) -> &Parameters {
        match self {
            Self::Dit(dit) => dit.parameters(),
            Self::Uvit(uvit) => uvit.parameters(),
        }
    }

    pub(super) fn sinusoid(&self, t: &Tensor) -> Result<Tensor, TorchError> {
        match self {
            Self::Dit(dit) => dit.sinusoid(t),
            Self::Uvit(uvit) => uvit.sinusoid(t),
        }
    }

    /// All channels of the output.
    pub(super) fn run(
        &self,
        x: &Tensor,
        sinusoid: &Tensor,
        class: Option<&Tensor>,
        observe: &mut Observer,
    ) -> Result<Tensor, ModelError> {
        match self {
            Self::Dit(dit) => dit.run(x, sinusoid, class, observe),
            Self::Uvit(uvit) => uvit.run(x, sinusoid, class, observe),
        }
    }

    /// The table of positions, where it is computed.
    pub(super) fn position_table(&self) -> Result<Option<Tensor>, TorchError> {
        match self {
            Self::Dit(dit) => Ok(Some(dit.position_rows(own_grid(dit.config()))?)),
            Self::Uvit(_) => Ok(None),
        }
    }

    /// What leaves the first block, and what the end makes of the same stream: DiT's output, U-ViT's last norm.
    pub(super) fn first_block_and_end(
        &self,
        stream: &Stream,
        condition: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let missing = || super::absent("eps.cond");
        match self {
            Self::Dit(dit) => {
                let condition = condition.ok_or_else(missing)?;
                let left = dit.blocks[0].with(|block| block.forward(stream, condition, dit.kind()))?;
                Ok((left.settle(Kind::Float)?, dit.finish(stream, condition)?))
            }
            Self::Uvit(uvit) => {
                let (_, left) = uvit.blocks[0].with(|block| block.forward(stream, uvit.kind()))?;
                Ok((left.settle(Kind::Float)?, uvit.finish(stream)?))
            }
        }
    }
}

/// The published configuration (JSON, by the names of its Python arguments) as ours.
pub(super) fn network_of(json: &str) -> Result<ModelConfig, ConfigError> {
    let problem = |problem: String| ConfigError { problems: vec![problem] };
    let config: Value = serde_json::from_str(json).map_err(|error| problem(format!("not JSON: {error}")))?;
    let size = |name: &str, default: Option<usize>| match config.get(name) {
        None => default.ok_or_else(|| problem(format!("`{name}` is missing"))),
        Some(value) => value
            .as_u64()
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| problem(format!("`{name}` must be a whole number, got {value}"))),
    };
    let flag = |name: &str, default: bool| config.get(name).and_then(Value::as_bool).unwrap_or(default);
    if config.get("input_size").is_some() {
        // What a file leaves out is as in DiT-XL/2.
        return Ok(ModelConfig::Dit(DitConfig {
            image_size: size("input_size", None)?,
            in_channels: size("in_channels", Some(4))?,
            patch_size: size("patch_size", Some(2))?,
            d_model: size("hidden_size", Some(1152))?,
            depth: size("depth", Some(28))?,
            heads: size("num_heads", Some(16))?,
            classes: size("num_classes", None)?,
            null_class: true,
            learn_sigma: flag("learn_sigma", true),
        }));
    }
    let classes = match config.get("num_classes").and_then(Value::as_i64) {
        Some(count) if count > 0 => size("num_classes", None)?,
        _ => 0,
    };
    Ok(ModelConfig::Uvit(UvitConfig {
        image_size: size("img_size", None)?,
        in_channels: size("in_chans", None)?,
        patch_size: size("patch_size", None)?,
        d_model: size("embed_dim", None)?,
        depth: size("depth", None)?,
        heads: size("num_heads", None)?,
        classes,
        null_class: false, // counted among the classes, if there is one
        mlp_time_embed: flag("mlp_time_embed", false),
        conv: flag("conv", true),
    }))
}
