//! What makes weights of weights: `ema` and `convert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
