//! The one error type of this crate.

use dim_kernels::KernelError;

/// What can go wrong between tensors and kernels.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Libtorch(String),
    /// A kernel refused its arguments.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A tensor does not fit the operation.
    #[error("{operation}: `{argument}` must be {expected}, got {got}")]
    Argument {
        /// The operation that was called.
        operation: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// What it accepts.
        expected: String,
        /// What came.
        got: String,
    },
    /// A parameter was asked for that the model does not have.
    #[error("no parameter `{0}` in this model")]
    UnknownParameter(String),
    /// Two parameters have one name.
    #[error("two parameters are named `{0}`")]
    DuplicateParameter(String),
    /// A flat buffer has the wrong length, type or device.
    #[error("flat buffer must be {expected}, got {got}")]
    FlatBuffer {
        /// What the specifications ask for.
        expected: String,
        /// What came.
        got: String,
    },
    /// An operation written in Rust panicked; the panic was stopped before it reached C++.
    #[error("{operation} panicked: {message}")]
    Panic {
        /// The operation that was running.
        operation: &'static str,
        /// The panic's message.
        message: String,
    },
}

impl From<tch::TchError> for TorchError {
    fn from(error: tch::TchError) -> Self {
        Self::Libtorch(error.to_string())
    }
}
