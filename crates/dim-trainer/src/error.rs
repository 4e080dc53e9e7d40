//! Everything that can go wrong in the program, each with what it concerns, what was expected and what came.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::counted;

/// An error of the program; its text is what the user reads, [`exit_code`](Self::exit_code) what the shell gets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainerError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),

    /// The configuration file is not there or unreadable.
    #[error("cannot read the configuration {}: {source}", path.display())]
    ConfigFile {
        /// The file named on the command line.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The configuration does not parse: TOML syntax, an unknown key, a value of the wrong type.
    #[error("{location}: {message}")]
    ConfigSyntax {
        /// `FILE`, `FILE:LINE` or `--set KEY=VALUE`.
        location: String,
        /// The key, what was expected and what came.
        message: String,
    },

    /// The configuration parses but its values make no sense; every problem at once.
    #[error("the configuration {origin} has {}:\n  - {}", counted(problems.len(), "problem"), problems.join("\n  - "))]
    ConfigValues {
        /// Where the configuration came from.
        origin: String,
        /// One line a problem, each naming its key.
        problems: Vec<String>,
    },

    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file or folder could not be written; what stood there before is untouched.
    #[error("cannot write {}: {source}{}", path.display(), mend(source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The run folder holds a run already.
    #[error("{} already holds a run ({found}); continue it with `--resume`, replace it with `--overwrite`, or choose another folder with `--run`", path.display())]
    RunExists {
        /// The run folder.
        path: PathBuf,
        /// What was found there.
        found: String,
    },

    /// A line of a log is none.
    #[error("{}: line {line} is no record of training", path.display())]
    NotALog {
        /// The log.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },

    /// There is no checkpoint where one was asked for.
    #[error("{} holds no checkpoint; {advice}", path.display())]
    NoCheckpoint {
        /// The run folder.
        path: PathBuf,
        /// What to do instead.
        advice: String,
    },

    /// The file is not a checkpoint at all.
    #[error("{} is not a checkpoint: {reason}{}", path.display(), offer(older.as_deref()))]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What in it is not as in a checkpoint.
        reason: String,
        /// An older checkpoint of the same run that reads well.
        older: Option<PathBuf>,
    },

    /// The checkpoint ends early, as after a copy that was cut off.
    #[error("{} is truncated: {expected} bytes expected, got {got}{}", path.display(), offer(older.as_deref()))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that its header announces.
        expected: u64,
        /// Bytes it has.
        got: u64,
        /// An older checkpoint of the same run that reads well.
        older: Option<PathBuf>,
    },

    /// The checkpoint's bytes are not those that were written.
    #[error("{} is corrupt: its checksum is {expected:08x}, its contents have {got:08x}{}", path.display(), offer(older.as_deref()))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Checksum (CRC-32C) stored in the file.
        expected: u32,
        /// Checksum of what the file holds.
        got: u32,
        /// An older checkpoint of the same run that reads well.
        older: Option<PathBuf>,
    },

    /// The checkpoint was written by another version of the program.
    #[error("{} has checkpoint format {got}, this program reads format {expected}{}", path.display(), offer(older.as_deref()))]
    CheckpointVersion {
        /// The file.
        path: PathBuf,
        /// The format this program reads.
        expected: String,
        /// The file's format.
        got: String,
        /// An older checkpoint of the same run that reads well.
        older: Option<PathBuf>,
    },

    /// The checkpoint belongs to a run with other settings.
    #[error("{} was written with another configuration:\n  - {}\n{advice}", path.display(), differences.join("\n  - "))]
    OtherConfig {
        /// The file.
        path: PathBuf,
        /// One line a key: its value there and here.
        differences: Vec<String>,
        /// What the user can do.
        advice: String,
    },

    /// The autoencoder of a file is not the one that is wanted.
    #[error("{} is another autoencoder: {problem}", path.display())]
    OtherAutoencoder {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        problem: String,
    },

    /// The loss or the gradient stopped being a number.
    #[error(
        "the {quantity} became {value} at step {step} ({images_seen} images seen). {kept}. Things to try: a lower `train.lr`, a longer `train.warmup_images`, a smaller `train.clip_norm`, `train.precision = \"f32\"`"
    )]
    NonFinite {
        /// `loss` or `gradient norm`.
        quantity: &'static str,
        /// The value: NaN or an infinity.
        value: f64,
        /// The step, counted from 0, at which it was seen first.
        step: u64,
        /// Images seen before that step.
        images_seen: u64,
        /// Which checkpoint is left to go back to.
        kept: String,
    },

    /// Another process of the run failed.
    #[error("{0}; its own message says why")]
    Team(String),

    /// Something the program does not do yet.
    #[error("{0}")]
    Unsupported(String),

    /// Some comparison of `verify` failed, or nothing was compared.
    #[error("{0}")]
    Verification(String),

    /// A PNG is not one that can be read, or not one of ours.
    #[error("{}: {problem}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A folder of samples holds images that were drawn otherwise.
    #[error(
        "{} was drawn with other parameters:\n  - {}\nchoose another folder with `--folder`, or go on with the parameters of this one",
        path.display(),
        differences.join("\n  - ")
    )]
    OtherSamples {
        /// The first such image.
        path: PathBuf,
        /// One line a parameter: its value there and here.
        differences: Vec<String>,
    },

    /// A file is not one of statistics.
    #[error("{} does not hold statistics: {problem}", path.display())]
    NotStatistics {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// Statistics of images that do not compare.
    #[error("these sets of images were not measured alike:\n  - {}", differences.join("\n  - "))]
    OtherStatistics {
        /// One line a difference.
        differences: Vec<String>,
    },

    /// A PNG could not be written.
    #[error("cannot encode a PNG: {0}")]
    Png(#[from] png::EncodingError),

    /// The data.
    #[error(transparent)]
    Data(#[from] dim_data::DataError),

    /// Schedules, objectives, samplers.
    #[error(transparent)]
    Diffusion(#[from] dim_diffusion::DiffusionError),

    /// The network and its weights.
    #[error(transparent)]
    Model(#[from] dim_model::ModelError),

    /// Files of weights.
    #[error(transparent)]
    Weights(#[from] dim_model::weights::WeightsError),

    /// Features of images and distances between sets of them.
    #[error(transparent)]
    Eval(#[from] dim_eval::EvalError),

    /// Operations, parameters, the optimiser, the device.
    #[error(transparent)]
    Torch(#[from] dim_torch::TorchError),

    /// A call of libtorch; out of memory, mostly.
    #[error("libtorch: {0}")]
    Libtorch(#[from] tch::TchError),
}

impl TrainerError {
    /// What the process exits with: 2 for the command line and the configuration, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::ConfigFile { .. } | Self::ConfigSyntax { .. } | Self::ConfigValues { .. } => 2,
            _ => 1,
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// Whether the file named in the error is no checkpoint that can be used, while an older one might be.
    pub fn is_bad_checkpoint(&self) -> bool {
        matches!(
            self,
            Self::NotACheckpoint { .. }
                | Self::Truncated { .. }
                | Self::Corrupt { .. }
                | Self::CheckpointVersion { .. }
        )
    }

    /// Adds the name of an older checkpoint that reads well to an error about a bad one.
    pub(crate) fn offering(mut self, good: Option<PathBuf>) -> Self {
        match &mut self {
            Self::NotACheckpoint { older, .. }
            | Self::Truncated { older, .. }
            | Self::Corrupt { older, .. }
            | Self::CheckpointVersion { older, .. } => *older = good,
            _ => {}
        }
        self
    }
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; make room, and go on from the last checkpoint with `--resume`"
        }
        _ => "",
    }
}

fn offer(older: Option<&Path>) -> String {
    older.map_or_else(String::new, |path| {
        format!("; {} is older and good: go back to it with `--resume=older`", path.display())
    })
}
