//! The command line.

#[cfg(test)]
mod documented;
mod eval;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use dim_eval::features::LiteSize;

use crate::device::{CudaGraphs, DeviceChoice};

pub use eval::{EvalArgs, EvalSampleArgs, FeaturesName, PreprocessingName};

pub use crate::evaluation::Metric;

/// Trains DiM, draws samples from it, and shows and checks what it is.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network, or go on with a run.
    Train(TrainArgs),
    /// Train an autoencoder, whose latents networks can then be trained on, or go on with such a run.
    TrainAutoencoder(TrainArgs),
    /// Draw samples from a run or from weights.
    Sample(Box<SampleArgs>),
    /// Turn images into latents on disk, once, for networks that work on latents.
    Encode(Box<EncodeArgs>),
    /// Average the weights of a run differently, after training.
    Ema(EmaArgs),
    /// Write weights in another format, under other names or in another precision.
    Convert(ConvertArgs),
    /// Show what a file or a run is: weights, checkpoints, configurations, pictures.
    Inspect(InspectArgs),
    /// Make a page of a training run: state, curves, samples, metrics, configuration, environment.
    Report(ReportArgs),
    /// Say how good images are, in folders or drawn from a network: FID, sFID, inception score, KID, precision, recall and their kin.
    Eval(Box<EvalArgs>),
    /// Compare with tensors that the published implementation computed.
    Verify(VerifyArgs),
    /// Print what a shell needs to complete this program's command line.
    Completions(CompletionsArgs),
    /// Write manual pages: one for the program, one for each subcommand.
    Man(ManArgs),
}

impl Command {
    /// Whether it computes enough for the settings of the libraries that do to matter.
    pub fn computes(&self) -> bool {
        !matches!(self, Self::Convert(_) | Self::Inspect(_) | Self::Report(_) | Self::Completions(_) | Self::Man(_))
    }
}

/// Where the computation runs.
#[derive(Clone, Copy, Debug, Args)]
pub struct ComputeArgs {
    /// `auto` (a GPU if there is one), `cpu` or `cuda:N`.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// CPU threads; by default those of the configuration, or one for each physical core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// `dim-trainer train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The configuration; with --resume, the run's own if left out.
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// Set a key of the configuration, such as train.batch_size=64; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The run's folder; by default runs/ and the name of the configuration.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub run: Option<PathBuf>,
    /// Go on with the run in the folder: from its newest checkpoint, from the newest that reads well, or from the newest if there is any.
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "newest")]
    pub resume: Option<Which>,
    /// With --resume: go on although the configuration differs from the checkpoint's.
    #[arg(long, requires = "resume")]
    pub accept_changes: bool,
    /// Replace the run in the folder.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// End the run after this time even if images are left; --resume goes on with them.
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    pub time_limit: Option<Duration>,
    /// Record where the time of the tenth step goes, for Chrome's trace viewer, and say how much of the communication is hidden.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
}

/// Which checkpoint to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The newest; an error if it does not read.
    Newest,
    /// The newest that reads well; newer ones are set aside.
    Older,
    /// The newest; a run that has no checkpoint yet begins. For jobs that a cluster starts again by itself.
    IfAny,
}

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
    /// same. By default where a process draws by itself.
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

/// `dim-trainer encode`
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A configuration whose sections `[data]` and `[autoencoder]` count, and whose network says how large the images are.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["data", "check"])]
    pub config: Option<PathBuf>,
    /// Set a key of the configuration; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    pub set: Vec<String>,
    /// The images, in place of the configuration's: a folder of class folders, or of WebDataset's tar files.
    #[arg(long, value_name = "DIR|TAR")]
    pub data: Option<PathBuf>,
    /// The autoencoder's weights; by default the configuration's `autoencoder.weights`. Without a configuration: those of KL-f8, or of one
    /// that says its own sizes.
    #[arg(long, value_name = "FILE")]
    pub autoencoder: Option<PathBuf>,
    /// Side of the images in pixels; by default what the configuration's network works on.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub image_size: Option<u32>,
    /// The folder to fill; an encoding in it that was stopped goes on.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// In what numbers latents are stored: f16 and bf16 take half the space.
    #[arg(long, value_enum, default_value_t = StoredAs::F32)]
    pub store: StoredAs,
    /// In what the autoencoder computes; bf16 on GPUs only.
    #[arg(long, value_enum, default_value_t = VerifyPrecision::F32)]
    pub precision: VerifyPrecision,
    /// Leave out the mirror images, which `train.random_flip` needs: half the space and time.
    #[arg(long)]
    pub no_mirror: bool,
    /// Images of a file; by default as many as take 256 MiB. What is being encoded when the work stops is lost with its file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub images_per_shard: Option<u32>,
    /// Images that are read at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch_size: u32,
    /// Broken image files to leave out; one more ends the work.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_broken_files: usize,
    /// Encode nothing: read what stands in the folder and compare every byte with its checksum.
    #[arg(long, conflicts_with_all = ["config", "data", "autoencoder", "image_size"])]
    pub check: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
}

/// In what numbers latents are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoredAs {
    /// 32 bits.
    F32,
    /// 16 bits, 11 of them significant.
    F16,
    /// 16 bits, 8 of them significant.
    Bf16,
}

/// `dim-trainer ema`
#[derive(Debug, Args)]
pub struct EmaArgs {
    /// The run, whose configuration must have the section `[ema]`.
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Width of the average: the standard deviation of how late the weights in it are, in lengths of the run.
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub sigma_rel: f64,
    /// The average as it was after so many images; by default at the newest snapshot.
    #[arg(long, value_name = "IMAGES")]
    pub at: Option<u64>,
    /// The file of weights to write, for `sample --weights`.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print what was written as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `dim-trainer convert`
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// What to convert: a file of weights of any known format, a snapshot, a checkpoint, or a folder of diffusers' AutoencoderKL.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// What to write: a file, or with `--names diffusers` a folder.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Whose names and layouts the tensors are to have.
    #[arg(long, value_enum, default_value_t = NamesChoice::Ours)]
    pub names: NamesChoice,
    /// The format; by default PyTorch's if OUT ends in .pth, .pt, .bin or .ckpt, else safetensors.
    #[arg(long, value_enum)]
    pub format: Option<FormatChoice>,
    /// The element type of the numbers; by default they keep theirs.
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeChoice>,
    /// The configuration that the weights belong to, if they do not carry one: all keys are then checked, and it goes into
    /// safetensors that are written.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which dictionary of a PyTorch file that holds several, such as ema.
    #[arg(long, value_name = "KEY")]
    pub dictionary: Option<String>,
    /// Of a checkpoint the weights themselves instead of their moving average.
    #[arg(long)]
    pub no_ema: bool,
    /// Replace OUT if it is there.
    #[arg(long)]
    pub overwrite: bool,
    /// Print what was written as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Whose names weights are to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NamesChoice {
    /// This program's, which for all networks but DiM are the published ones.
    Ours,
    /// The DiM authors' code's.
    Authors,
    /// Those of diffusers' AutoencoderKL, in a folder with its config.json.
    Diffusers,
}

/// The formats of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    /// Safetensors.
    Safetensors,
    /// A zip archive for torch.load.
    Pytorch,
}

/// The element types that weights can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DtypeChoice {
    /// 32 bits.
    F32,
    /// 16 bits, 5 of them for the exponent.
    F16,
    /// 16 bits, 8 of them for the exponent.
    Bf16,
}

/// `dim-trainer inspect`
#[derive(Debug, Args)]
// The group that clap makes of a struct by itself would hold `set`, too.
#[group(skip)]
#[command(group = ArgGroup::new("subject").required(true).args(["path", "config", "weights", "run"]))]
pub struct InspectArgs {
    /// Anything: a configuration, weights, a checkpoint, a run's folder, a log, a picture; told by its content.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// A configuration.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A file of weights.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// A run's folder.
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// With --config: set a key, such as model.depth=9; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    pub set: Vec<String>,
    /// Print everything, also every tensor's name, shape and type, as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `dim-trainer report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The folder of a run of `train` or `train-autoencoder`, finished or not; the curves of several lie over each other.
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page; by default report.html in the run's folder, or in this one for several runs.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `dim-trainer completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `dim-trainer man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write to; man finds pages in the folder man1 of a folder of MANPATH.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `dim-trainer verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The folder of files.
    #[arg(long, value_name = "DIR")]
    pub golden: PathBuf,
    /// Also run the full-size networks: minutes, and up to 4 GB of memory.
    #[arg(long)]
    pub full: bool,
    /// Print every comparison as one JSON object on stdout; the lines for people go to stderr.
    #[arg(long)]
    pub json: bool,
    /// Where the networks and the scan run: `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// In what: f32, or, on a GPU, bf16, where errors may be twice those of a plain evaluation in bf16.
    #[arg(long, value_enum, default_value_t = VerifyPrecision::F32)]
    pub precision: VerifyPrecision,
    /// CPU threads; by default one for each physical core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// The trained weights of EfficientNet-Lite0, without which its features are not compared.
    #[arg(long, value_name = "FILE", default_value = LiteSize::Lite0.installed())]
    pub efficientnet_lite0: PathBuf,
}

/// In what `verify` computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyPrecision {
    /// Everything in f32.
    F32,
    /// Products, convolution and scan in bf16.
    Bf16,
}

/// Minutes as the command line gives them, such as 11 or 0.5.
fn minutes(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a number of minutes above 0, got `{text}`");
    let minutes: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|limit| !limit.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn resume_takes_an_optional_choice() {
        let parse = |arguments: &[&str]| match Cli::try_parse_from(
            [&["dim-trainer", "train", "--run", "r"], arguments].concat(),
        ) {
            Ok(Cli { command: Command::Train(train) }) => train.resume,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&["--resume"]), Some(Which::Newest));
        assert_eq!(parse(&["--resume=older"]), Some(Which::Older));
        assert_eq!(parse(&["--resume=if-any"]), Some(Which::IfAny));
        assert_eq!(parse(&["--config", "c"]), None);
    }

    #[test]
    fn sizes_are_height_by_width() {
        assert_eq!("32x48".parse(), Ok(Size { height: 32, width: 48 }));
        for text in ["32", "x", "0x8", "8x-8", "99999x8", "8x8x8"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
