//! What can go wrong in a sweep.

use std::path::PathBuf;

/// What can go wrong in a sweep; a point that cannot be measured is no error but a result.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The configuration does not work.
    #[error("{origin} does not work:\n  {}", problems.join("\n  "))]
    Config {
        /// Where it stands.
        origin: String,
        /// One sentence a problem.
        problems: Vec<String>,
    },
    /// A file of results.
    #[error(transparent)]
    Report(#[from] dim_report::ReportError),
    /// The network, or the device under it.
    #[error(transparent)]
    Model(#[from] dim_model::ModelError),
    /// An operation.
    #[error(transparent)]
    Torch(#[from] dim_torch::TorchError),
    /// A prediction.
    #[error(transparent)]
    Diffusion(#[from] dim_diffusion::DiffusionError),
    /// A device that is not there.
    #[error("there is no device {asked}: {reason}")]
    Device {
        /// What was asked for.
        asked: String,
        /// Why not.
        reason: String,
    },
    /// The worker's side of the conversation.
    #[error("the measuring process {0}")]
    Worker(String),
}

impl From<tch::TchError> for SweepError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}
