//! The arguments of `dim-trainer eval`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use dim_eval::features::LiteSize;

use super::ComputeArgs;
use crate::device::CudaGraphs;
use crate::evaluation::Metric;

/// `dim-trainer eval`
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("judged").required(true).multiple(false).args(["images", "run", "network"]))]
pub struct EvalArgs {
    /// The images to judge: every PNG, JPEG, WebP and BMP file below this folder.
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Judge samples of the newest checkpoint of this run; no image is written.
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Judge samples of these snapshots, or other files of a network's weights.
    #[arg(long, value_name = "FILE", num_args = 1.., value_delimiter = ',')]
    pub network: Vec<PathBuf>,
    /// The images to judge them by: a folder, a file of --save-statistics, or an .npz of pytorch-fid or ADM.
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "save_statistics")]
    pub reference: Option<PathBuf>,
    /// Write what is known of --images to a file, which --reference reads.
    #[arg(long, value_name = "FILE", requires = "images")]
    pub save_statistics: Option<PathBuf>,
    /// The network whose features are compared.
    #[arg(long, value_enum, default_value_t = FeaturesName::EfficientnetLite0)]
    pub features: FeaturesName,
    /// Its trained weights; by default those that set-up installs, if it does.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Of inception: whose resizing.
    #[arg(long, value_enum, default_value_t = PreprocessingName::PytorchFid)]
    pub preprocessing: PreprocessingName,
    /// What to compute.
    #[arg(long, value_enum, value_name = "METRIC", value_delimiter = ',', default_value = "fd")]
    pub metrics: Vec<Metric>,
    /// Parts of the inception score.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub score_parts: u16,
    /// Pairs of subsets of KID.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub kid_subsets: u16,
    /// Images of each of them, or all if there are fewer.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub kid_subset_size: u32,
    /// Neighbours that make balls, of pr and dc; by default 3 for pr and 5 for dc, as published.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub neighbours: Option<u16>,
    /// Images of a set whose features are kept for kid, pr and dc: the first ones.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    pub kept_images: u32,
    /// Also compare patches of N x N pixels of two folders, cut at full resolution.
    #[arg(long, value_name = "N", requires = "images", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub patch: Option<u16>,
    /// Pixels between the corners of neighbouring patches; by default the size of a patch.
    #[arg(long, value_name = "M", requires = "patch", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub stride: Option<u16>,
    /// Images that go through the network of the features at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch_size: u16,
    /// On a GPU, round what the convolutions of the features' network read to TF32, as PyTorch and so pytorch-fid do by default: faster, and
    /// features differ from the third digit on.
    #[arg(long)]
    pub tf32: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub samples: EvalSampleArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
}

/// What samples are judged; of --run and --network.
#[derive(Debug, Args)]
pub struct EvalSampleArgs {
    /// The configuration that the weights of --network belong to, if they do not carry one.
    #[arg(long, value_name = "FILE", requires = "network")]
    pub config: Option<PathBuf>,
    /// Of --run: averages of the weights that are so wide, as `dim-trainer ema` makes them, in place of the checkpoint's.
    #[arg(long, value_name = "S", value_delimiter = ',', requires = "run")]
    pub sigma_rel: Vec<f64>,
    /// Weights of classifier-free guidance, each by itself; 1 is the plain network. By default 1 and the configuration's.
    #[arg(long, value_name = "W", value_delimiter = ',', allow_negative_numbers = true, conflicts_with = "images")]
    pub cfg_scale: Vec<f64>,
    /// Samples of each.
    #[arg(long, value_name = "N", conflicts_with = "images", value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    pub count: Option<u32>,
    /// Seed of the noise; by default the configuration's.
    #[arg(long, value_name = "S", conflicts_with = "images")]
    pub seed: Option<u64>,
    /// Calls of the network for each sample; by default the configuration's.
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub steps: Option<usize>,
    /// Samples that are drawn at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub sample_batch_size: u32,
    /// On a GPU, record the network's work for a batch of each shape as a CUDA graph and replay it: the host has less to do, the samples are the same.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = CudaGraphs::Auto, conflicts_with = "images")]
    pub cuda_graphs: CudaGraphs,
    /// The autoencoder's weights, for a network that draws latents; by default the configuration's.
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "images")]
    pub autoencoder: Option<PathBuf>,
    /// The folder of results, from which a command that was stopped goes on when it is repeated.
    #[arg(long, value_name = "DIR", default_value = "evaluation")]
    pub out: PathBuf,
}

/// The networks whose features can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeaturesName {
    /// EfficientNet-Lite0, trained on ImageNet: 1,280 features.
    EfficientnetLite0,
    /// The next larger one, of 240 pixels.
    EfficientnetLite1,
    /// The next after that, of 260 pixels.
    EfficientnetLite2,
    /// The Inception network of FID: 2,048 features.
    Inception,
    /// DINOv2 of any published size, told by its weights: 1,024 features of ViT-L/14, which is FD-DINOv2's.
    Dinov2,
}

impl FeaturesName {
    /// As the command line and the configuration write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EfficientnetLite0 => LiteSize::Lite0.name(),
            Self::EfficientnetLite1 => LiteSize::Lite1.name(),
            Self::EfficientnetLite2 => LiteSize::Lite2.name(),
            Self::Inception => "inception",
            Self::Dinov2 => "dinov2",
        }
    }
}

/// How images come to Inception.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreprocessingName {
    /// As pytorch-fid does it.
    #[default]
    PytorchFid,
    /// As TensorFlow 1 did it, and ADM's evaluation suite and torch-fidelity do.
    Tensorflow,
}
