//! What shows files and runs: `inspect` and `report`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

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
