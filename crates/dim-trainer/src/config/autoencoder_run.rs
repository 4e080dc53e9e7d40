//! The configuration of `train-autoencoder`: an autoencoder's sizes, its images and its loss.

use std::path::PathBuf;

use dim_data::DataConfig;
use dim_eval::features::LiteSize;
use dim_model::AutoencoderConfig;
use serde::{Deserialize, Serialize};

use super::{RunConfig, Split, Train, source, validate};
use crate::error::TrainerError;

/// Everything that defines the training of an autoencoder. A key that is not known is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderRun {
    /// Side in pixels of the images it is trained on; it then takes others, too.
    pub image_size: usize,
    /// Its sizes. The scaling factor is measured and must not be given.
    pub autoencoder: AutoencoderConfig,
    /// Where the images come from.
    pub data: DataConfig,
    /// What it is trained for.
    #[serde(default)]
    pub loss: Reconstruction,
    /// The optimiser and the run's bookkeeping.
    pub train: Train,
    /// Pictures made while training.
    #[serde(default)]
    pub pictures: Pictures,
}

/// `[loss]`: what a reconstruction is judged by. Rombach et al., arXiv 2112.10752, appendix G, without the adversarial part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reconstruction {
    /// How pixels are compared.
    pub norm: ReconstructionNorm,
    /// Weight of the divergence of an image's latent, summed, against errors of its pixels, summed.
    pub kl_weight: f64,
    /// Weight of the perceptual distance, which is ten times as large as the mean error of pixels at first; 0 does without.
    pub perceptual_weight: f64,
    /// The weights of EfficientNet-Lite0, which sees the perceptual distance.
    pub perceptual_network: PathBuf,
    /// Learn the logarithm of the errors' variance, which balances errors against the divergence; otherwise it stays 0.
    pub learned_variance: bool,
}

/// How pixels are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconstructionNorm {
    /// By the absolute difference.
    #[default]
    L1,
    /// By the squared difference.
    L2,
}

/// `[pictures]`: originals above their reconstructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pictures {
    /// A picture every so many images, and one at the end; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_images: Option<u64>,
    /// Rows of originals, each with a row of reconstructions below.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Default for Reconstruction {
    fn default() -> Self {
        Self {
            norm: ReconstructionNorm::L1,
            kl_weight: 1e-6,
            perceptual_weight: 0.1,
            perceptual_network: LiteSize::Lite0.installed().into(),
            learned_variance: true,
        }
    }
}

impl Default for Pictures {
    fn default() -> Self {
        Self { every_images: None, rows: 2, columns: 8 }
    }
}

/// Channels that the perceptual network sees.
const RGB: usize = 3;
/// The perceptual network halves an image five times.
const SMALLEST_SEEN: usize = 32;
const MAX_GRID: usize = 256;

impl AutoencoderRun {
    /// Every problem of the values, one line each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = validate::Problems::default();
        if let Err(error) = self.autoencoder.validate() {
            problems.lines.extend(error.problems.into_iter().map(|problem| format!("[autoencoder] {problem}")));
        }
        validate::data_section(&self.data, &mut problems);
        validate::train(&self.train, &mut problems);
        let sharing = self.train.distributed.sequence_parallel;
        let expected = "1: an autoencoder has no tokens to split";
        problems.require("train.distributed.sequence_parallel", sharing <= 1, expected, sharing);
        let possible = self.train.distributed.split != Split::Parameters;
        let expected = "none, optimizer or gradients: parameters are split for DiM alone";
        problems.require("train.distributed.split", possible, expected, "parameters");
        let channels = self.autoencoder.in_channels;
        let found = self.data.channels();
        problems.require(
            "autoencoder.in_channels",
            channels == found,
            &format!("{found}, the channels of the images"),
            channels,
        );
        let factor = self.autoencoder.scaling_factor;
        problems.require("autoencoder.scaling_factor", factor == 1.0, "left out: it is measured", factor);
        let (rate, size) = (self.autoencoder.downsampling(), self.image_size);
        let expected = format!("a multiple of {rate}, the autoencoder's downsampling");
        problems.require("image_size", size >= 1 && size.is_multiple_of(rate), &expected, size);
        for (key, weight) in
            [("loss.kl_weight", self.loss.kl_weight), ("loss.perceptual_weight", self.loss.perceptual_weight)]
        {
            problems.require(key, weight >= 0.0 && weight.is_finite(), "0 or more", weight);
        }
        if self.loss.perceptual_weight > 0.0 {
            let seen = channels == RGB && size >= SMALLEST_SEEN;
            let expected = "0 unless images have 3 channels and at least 32 pixels a side";
            problems.require("loss.perceptual_weight", seen, expected, self.loss.perceptual_weight);
        }
        let recompute = self.train.recompute_blocks;
        problems.require("train.recompute_blocks", recompute == 0, "0 for an autoencoder", recompute);
        let recompute = self.train.recompute_scan;
        problems.require("train.recompute_scan", !recompute, "false for an autoencoder", recompute);
        let others = &self.train.other_image_sizes;
        problems.require("train.other_image_sizes", others.is_empty(), "[] for an autoencoder", format!("{others:?}"));
        problems.require(
            "pictures.every_images",
            self.pictures.every_images != Some(0),
            "at least 1; leave it out for no pictures",
            0,
        );
        for (key, size) in [("pictures.rows", self.pictures.rows), ("pictures.columns", self.pictures.columns)] {
            problems.require(key, (1..=MAX_GRID).contains(&size), "from 1 to 256", size);
        }
        problems.lines
    }
}

impl RunConfig for AutoencoderRun {
    const CHECKPOINT: &'static str = "dim-autoencoder-checkpoint";
    const SHAPES: &'static [&'static str] = &["autoencoder."];

    fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self, TrainerError> {
        let config: Self = source::parse(text, origin, overrides, |_| Ok(()))?;
        match config.problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(TrainerError::ConfigValues { origin: origin.to_owned(), problems }),
        }
    }

    fn train(&self) -> &Train {
        &self.train
    }

    fn train_mut(&mut self) -> &mut Train {
        &mut self.train
    }

    fn pictures_every_images(&self) -> Option<u64> {
        self.pictures.every_images
    }

    fn unconditional(&self) -> bool {
        true
    }
}
