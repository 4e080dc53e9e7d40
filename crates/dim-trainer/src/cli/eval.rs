//! The arguments of `dim-trainer eval`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dim_eval::features::EfficientNetLite0;

use super::ComputeArgs;

/// `dim-trainer eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The images to judge: every PNG, JPEG, WebP and BMP file below this folder.
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// The images to judge them by.
    #[arg(long, value_name = "DIR")]
    pub reference: PathBuf,
    /// The network whose features are compared.
    #[arg(long, value_enum, default_value_t = FeaturesName::EfficientnetLite0)]
    pub features: FeaturesName,
    /// Its trained weights.
    #[arg(long, value_name = "FILE", default_value = EfficientNetLite0::INSTALLED)]
    pub weights: PathBuf,
    /// Also compare patches of N x N pixels, cut at full resolution.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub patch: Option<u16>,
    /// Pixels between the corners of neighbouring patches; by default the size of a patch.
    #[arg(long, value_name = "M", requires = "patch", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub stride: Option<u16>,
    /// Images that go through the network at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch_size: u16,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
}

/// The networks whose features can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeaturesName {
    /// EfficientNet-Lite0, trained on ImageNet: 1,280 features.
    EfficientnetLite0,
}
