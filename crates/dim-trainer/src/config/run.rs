//! What every kind of run has in its configuration, whatever it trains.

use std::path::Path;

use serde::Serialize;

use super::{Config, Ema, Evaluation, Train};
use crate::error::TrainerError;

/// The configuration of a run.
pub trait RunConfig: Clone + PartialEq + Serialize {
    /// What a checkpoint of such a run says of itself.
    const CHECKPOINT: &'static str;
    /// Keys that begin so decide about the shapes of what is trained.
    const SHAPES: &'static [&'static str];

    /// Parses text, applies overrides and checks everything; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Config::parse`].
    fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self, TrainerError>;

    /// `[train]`.
    fn train(&self) -> &Train;

    /// `[train]`, to fill in what the machine decides.
    fn train_mut(&mut self) -> &mut Train;

    /// `[ema]`, if there is one.
    fn ema(&self) -> Option<&Ema> {
        None
    }

    /// `[evaluation]`, if there is one.
    fn evaluation(&self) -> Option<&Evaluation> {
        None
    }

    /// How many images are seen between pictures.
    fn pictures_every_images(&self) -> Option<u64>;

    /// Whether images are shown without their classes.
    fn unconditional(&self) -> bool;

    /// Reads a file, as [`RunConfig::parse`].
    ///
    /// # Errors
    /// As [`Config::load`].
    fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainerError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TrainerError::ConfigFile { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// The whole configuration as TOML that [`RunConfig::parse`] reads back.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] if a path in it is not UTF-8.
    fn to_toml(&self) -> Result<String, TrainerError> {
        toml::to_string_pretty(self)
            .map_err(|error| TrainerError::Usage(format!("the configuration cannot be written as TOML: {error}")))
    }
}

impl RunConfig for Config {
    const CHECKPOINT: &'static str = "dim-checkpoint";
    const SHAPES: &'static [&'static str] = &["model.", "ema."];

    fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self, TrainerError> {
        Self::parse(text, origin, overrides)
    }

    fn train(&self) -> &Train {
        &self.train
    }

    fn train_mut(&mut self) -> &mut Train {
        &mut self.train
    }

    fn ema(&self) -> Option<&Ema> {
        self.ema.as_ref()
    }

    fn pictures_every_images(&self) -> Option<u64> {
        self.sample.every_images
    }

    fn evaluation(&self) -> Option<&Evaluation> {
        self.evaluation.as_ref()
    }

    fn unconditional(&self) -> bool {
        self.unconditional()
    }
}
