//! The error type of the networks.

use dim_torch::TorchError;

/// What can go wrong in building or running a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration is not a network.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
    /// An operation refused its tensors.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// An input of the network does not fit it.
    #[error("DiM: `{argument}` must be {expected}, got {got}")]
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
