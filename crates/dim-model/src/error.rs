//! The errors of the networks.

use dim_torch::TorchError;

/// Every problem of a configuration at once.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the model's configuration does not work:\n  {}", problems.join("\n  "))]
pub struct ConfigError {
    /// One sentence a problem.
    pub problems: Vec<String>,
}

/// What can go wrong in building or running a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration is not a network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An operation refused its tensors.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The network cannot split the tokens of an image over processes.
    #[error(
        "sequence parallelism is for DiM, whose scan passes its state on from process to process; this network has none"
    )]
    Sequence,
    /// An input of the network does not fit it.
    #[error("the network's `{argument}` must be {expected}, got {got}")]
    Input {
        /// The argument at fault.
        argument: &'static str,
        /// What it accepts.
        expected: String,
        /// What came.
        got: String,
    },
}

impl From<tch::TchError> for ModelError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}
