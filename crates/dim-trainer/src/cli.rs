//! The command line.

#[cfg(test)]
mod documented;
mod encode;
mod eval;
mod sample;
mod shell;
mod show;
mod train;
mod verify;
mod weights;

use clap::{Args, Parser, Subcommand};

use crate::device::DeviceChoice;

pub use encode::{EncodeArgs, StoredAs};
pub use eval::{EvalArgs, EvalSampleArgs, FeaturesName, PreprocessingName};
pub use sample::{MAX_COUNT, SampleArgs, SamplerName, Size};
pub use shell::{CompletionsArgs, ManArgs};
pub use show::{InspectArgs, ReportArgs};
pub use train::{TrainArgs, Which};
pub use verify::{VerifyArgs, VerifyPrecision};
pub use weights::{ConvertArgs, DtypeChoice, EmaArgs, FormatChoice, NamesChoice};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
