//! The configuration of a run: TOML, overrides from the command line, and one check of everything.
//!
//! ```text
//! FILE ─┐
//!       ├─ source (table, preset, overrides) ──▶ Config ──▶ validate ──▶ RUN/config.toml
//! --set ┘
//! ```

mod autoencoder;
mod autoencoder_run;
mod difference;
mod explain;
mod run;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod validate;

use std::path::Path;

use dim_data::DataConfig;
use dim_model::{BackboneConfig, ModelConfig};
use serde::{Deserialize, Serialize};

pub use autoencoder::{Autoencoder, AutoencoderKind};
pub use autoencoder_run::{AutoencoderRun, Pictures, Reconstruction, ReconstructionNorm};
pub use difference::{Difference, Effect, differences};
pub use run::RunConfig;
pub use sections::{
    Diffusion, Distributed, Ema, Evaluation, Precision, ReduceIn, Sample, Schedule, Split, Train, WeightDecayOn,
};

use crate::error::TrainerError;

/// Everything that defines a run. `deny_unknown_fields` throughout: a key that is not known is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network: `preset = "dim_s_2"`, or `backbone = "dit"` and all fields, or a preset and the fields that differ from it.
    pub model: ModelConfig,
    /// Where the images come from.
    pub data: DataConfig,
    /// What turns images into the latents that the network works on; absent for networks that work on pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoencoder: Option<Autoencoder>,
    /// Noise schedule and loss.
    pub diffusion: Diffusion,
    /// The optimiser and the run's bookkeeping.
    pub train: Train,
    /// Averages of the weights from which any other is made after training; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<Ema>,
    /// How good the samples are, measured while training; absent: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// Pictures drawn while training, and the defaults of the `sample` command.
    #[serde(default)]
    pub sample: Sample,
}

impl Config {
    /// Reads a configuration, applies overrides (`train.batch_size=64`) in their order and checks everything.
    ///
    /// # Errors
    /// [`TrainerError::ConfigFile`], [`TrainerError::ConfigSyntax`], [`TrainerError::Usage`] for a bad override,
    /// [`TrainerError::ConfigValues`] with every problem at once.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainerError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TrainerError::ConfigFile { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// As [`load`](Self::load), from text; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self, TrainerError> {
        let config = source::parse_config(text, origin, overrides)?;
        match config.problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(TrainerError::ConfigValues { origin: origin.to_owned(), problems }),
        }
    }

    /// The whole configuration, defaults and presets filled in, as TOML that [`parse`](Self::parse) reads back.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] if a path in it is not UTF-8.
    pub fn to_toml(&self) -> Result<String, TrainerError> {
        toml::to_string_pretty(self)
            .map_err(|error| TrainerError::Usage(format!("the configuration cannot be written as TOML: {error}")))
    }

    /// Every problem of the values, one line each.
    pub fn problems(&self) -> Vec<String> {
        validate::problems(self)
    }

    /// Images in one optimiser step are gone through in pieces of this many.
    pub fn micro_batch_size(&self) -> usize {
        self.train.micro_batch_size.unwrap_or(self.train.batch_size)
    }

    /// Whether the network is trained without classes: it takes none, or every label is dropped.
    pub fn unconditional(&self) -> bool {
        self.diffusion.class_dropout == 1.0 || self.model.classes() == 0
    }

    /// Side in pixels of the images that the data must give.
    pub fn data_size(&self) -> usize {
        self.model.image_size() * self.autoencoder.as_ref().map_or(1, Autoencoder::downsampling)
    }
}
