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
    /// Of a parameter only the copy in bf16 is up to date.
    #[error(
        "the f32 values of `{0}` may be old: other processes stepped their slices since all were sent; expected to be read in f32 before the first step, or `Parameters::share_parts` since the last"
    )]
    Behind(String),
    /// A flat buffer has the wrong length, type or device.
    #[error("flat buffer must be {expected}, got {got}")]
    FlatBuffer {
        /// What the specifications ask for.
        expected: String,
        /// What came.
        got: String,
    },
    /// A process could not join the others of a run.
    #[error("{who} cannot join the run: {problem}")]
    Join {
        /// The process: its rank, of how many, and where they meet.
        who: String,
        /// What was expected and what came.
        problem: String,
    },
    /// Processes of a run do not compute the same thing.
    #[error("the processes of this run do not agree:\n  - {}\nstart them all with the same program, configuration and number of processes", problems.join("\n  - "))]
    Disagreement {
        /// One line a difference, each naming a process.
        problems: Vec<String>,
    },
    /// A process of the run is gone, or no longer answers.
    #[error("{operation} failed on rank {rank} ({host}): {lost} (libtorch: {message})")]
    LostPeer {
        /// What was being done together.
        operation: &'static str,
        /// The rank of this process.
        rank: usize,
        /// The machine of this process.
        host: String,
        /// Rank and machine of those that are gone.
        lost: String,
        /// What libtorch said.
        message: String,
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
