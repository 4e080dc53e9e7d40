//! `sample`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ComputeArgs;
use crate::device::CudaGraphs;

/// The most images that one `sample` command draws.
pub const MAX_COUNT: u32 = 1_000_000;

/// `dim-trainer sample`
#[derive(Debug, Args)]
pub struct SampleArgs {
    /// Sample from the newest checkpoint of this run.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["weights", "untrained"], conflicts_with = "weights")]
    pub run: Option<PathBuf>,
    /// Sample from these weights: safetensors or PyTorch, under our names or the authors'.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// The configuration that the weights belong to, if they do not carry one.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub config: Option<PathBuf>,
    /// Draw with the weights that training by the configuration would start from, to see what time and memory it takes.
    #[arg(long, requires = "config", conflicts_with_all = ["run", "weights"])]
    pub untrained: bool,
    /// Classes to draw, by name or number, in turn; with numbers of images, such as cat:8,owl:4, so many of each. By default all.
    #[arg(long, value_name = "CLASS[:COUNT]", value_delimiter = ',')]
    pub class: Vec<String>,
    /// Number of images; by default what --class says, or a full grid of the configuration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_COUNT)))]
    pub count: Option<u32>,
    /// Calls of the network for each image.
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// The algorithm; by default the configuration's.
    #[arg(long)]
    pub sampler: Option<SamplerName>,
    /// Order of the sampler: DPM solvers and UniPC 1 to 3, multistep, EDM's and flow methods 1 or 2.
    #[arg(long, value_name = "K")]
    pub order: Option<usize>,
    /// Of DDIM: how much of each step's noise is fresh, 0 (none) to 1 (ancestral).
    #[arg(long, value_name = "ETA", allow_negative_numbers = true)]
    pub eta: Option<f64>,
    /// Weight of classifier-free guidance; 1 is the plain network.
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub cfg_scale: Option<f64>,
    /// Guide between these network times alone, such as 200-700 (times run from 1000, noise, to 0).
    #[arg(long, value_name = "LOW-HIGH", value_parser = interval)]
    pub guidance_interval: Option<[f64; 2]>,
    /// Bring the contrast that guidance adds this far back, 0 to 1 (arXiv 2305.08891; 0.7 there).
    #[arg(long, value_name = "PHI", default_value_t = 0.0)]
    pub guidance_rescale: f64,
    /// Seed of the noise: image i is a function of this and i, however many are drawn and however they are batched.
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Draw images this many times as large as those that the network was trained on, without training: upsample guidance
    /// (arXiv 2404.01709) keeps the composition of the small ones.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u8).range(2..=8))]
    pub upsample: Option<u8>,
    /// Height and width of the pictures in pixels, such as 32x48; by default the training size, times that of --upsample.
    #[arg(long, value_name = "HxW")]
    pub size: Option<Size>,
    /// Time shift of a rectified flow; by default that of training, times the side of the images over that of the training images.
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub time_shift: Option<f64>,
    /// Images that go through the network at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch_size: Option<u32>,
    /// Several processes, one a GPU, draw each image together, every one a part of its tokens, for images that take one GPU too long; DiM only. Without this,
    /// each draws its share of the images of a --folder.
    #[arg(long)]
    pub sequence_parallel: bool,
    /// On a GPU, record the network's work for a batch of each shape as a CUDA graph and replay it: the host has less to do, the images are the
    /// same.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = CudaGraphs::Auto)]
    pub cuda_graphs: CudaGraphs,
    /// With --json, also say how long each step took, for which the device is waited for.
    #[arg(long, requires = "json")]
    pub time_steps: bool,
    /// Show every pixel as N x N, for images too small to look at.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub enlarge: u8,
    /// The autoencoder's weights, for a network that draws latents: a file, or a folder of diffusers' AutoencoderKL; by default
    /// the configuration's `autoencoder.weights`.
    #[arg(long, value_name = "FILE|DIR")]
    pub autoencoder: Option<PathBuf>,
    /// Also write the latents, as safetensors; without an autoencoder instead of a picture.
    #[arg(long, value_name = "FILE")]
    pub latents: Option<PathBuf>,
    /// The picture of all images to write; by default samples.png, or none with --folder.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write every image to a PNG of its own in this folder. Images that are there already are not drawn again, so that a
    /// command that was stopped goes on when it is repeated; images that were drawn otherwise are never replaced.
    #[arg(long, value_name = "DIR", conflicts_with = "latents")]
    pub folder: Option<PathBuf>,
    /// Print what was drawn and with what parameters as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Use the moving average of the weights (the default).
    #[arg(long, overrides_with = "no_ema")]
    pub ema: bool,
    /// Use the weights themselves instead of their moving average.
    #[arg(long, conflicts_with_all = ["weights", "untrained"])]
    pub no_ema: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
}

/// `LOW-HIGH`.
fn interval(text: &str) -> Result<[f64; 2], String> {
    let numbers = text.split_once('-').and_then(|(low, high)| Some([low.parse().ok()?, high.parse().ok()?]));
    numbers.filter(|[low, high]: &[f64; 2]| low <= high).ok_or_else(|| "expected LOW-HIGH, such as 200-700".to_owned())
}

/// The sampling algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerName {
    /// DPM-Solver++ (data prediction).
    #[value(name = "dpm++")]
    DpmPlusPlus,
    /// DPM-Solver (noise prediction).
    #[value(name = "dpm")]
    Dpm,
    /// Multistep DPM-Solver++: good images in 20 to 25 calls.
    #[value(name = "dpm++2m")]
    DpmMultistep,
    /// The same with fresh noise at every step.
    #[value(name = "dpm++2m-sde")]
    DpmMultistepSde,
    /// Heun's method on EDM's noise levels, two calls a step.
    #[value(name = "heun")]
    Heun,
    /// Euler's method on EDM's noise levels.
    #[value(name = "euler")]
    Euler,
    /// UniPC: good images in 10 to 20 calls.
    #[value(name = "unipc")]
    UniPc,
    /// Euler's method on straight paths, for rectified flows.
    #[value(name = "flow-euler")]
    FlowEuler,
    /// Heun's method on straight paths, two calls a step.
    #[value(name = "flow-heun")]
    FlowHeun,
    /// DDIM; --eta makes it stochastic.
    #[value(name = "ddim")]
    Ddim,
    /// DDPM's ancestral sampling, hundreds of steps.
    #[value(name = "ancestral")]
    Ancestral,
    /// The same on EDM's noise levels, in fewer steps.
    #[value(name = "euler-ancestral")]
    EulerAncestral,
    /// Euler–Maruyama on the reverse SDE.
    #[value(name = "euler-maruyama")]
    EulerMaruyama,
}

/// Rows and columns of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |side: &str| side.parse::<usize>().ok().filter(|side| (1..=16_384).contains(side));
        let sides = text
            .split_once(['x', 'X'])
            .and_then(|(height, width)| Some(Self { height: side(height)?, width: side(width)? }));
        sides.ok_or_else(|| "expected HEIGHTxWIDTH in pixels, each from 1 to 16384, such as 32x48".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_height_by_width() {
        assert_eq!("32x48".parse(), Ok(Size { height: 32, width: 48 }));
        for text in ["32", "x", "0x8", "8x-8", "99999x8", "8x8x8"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
