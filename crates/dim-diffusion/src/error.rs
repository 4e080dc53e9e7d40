//! What can go wrong in this crate.

use tch::{Kind, TchError};

/// An error of a schedule, an objective, a sampler or a verification.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffusionError {
    /// An option has a value it cannot have.
    #[error("{option} must be {expected}, but is {actual}")]
    InvalidOption {
        /// The option's name, as it is written in a configuration.
        option: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A tensor has the wrong shape.
    #[error("{argument} must have the shape {expected}, but has {actual:?}")]
    WrongShape {
        /// The argument's name.
        argument: String,
        /// The shape it must have.
        expected: String,
        /// The shape it has.
        actual: Vec<i64>,
    },
    /// A tensor has the wrong element type.
    #[error("{argument} must hold {expected}, but holds {actual:?}")]
    WrongKind {
        /// The argument's name.
        argument: String,
        /// What it must hold.
        expected: &'static str,
        /// What it holds.
        actual: Kind,
    },
    /// A class label is neither a class of the network nor its null class.
    #[error("class[{position}] is {class}, but the classes are 0 to {last} and {null_class} means no class", last = null_class - 1)]
    ClassOutOfRange {
        /// Where it stands in the batch.
        position: usize,
        /// The label.
        class: i64,
        /// The label that means "no class"; every class is below it.
        null_class: i64,
    },
    /// Something optional was left out where it is needed.
    #[error("{argument} is missing: {reason}")]
    Missing {
        /// The argument's name.
        argument: &'static str,
        /// Why it is needed.
        reason: String,
    },
    /// The network failed.
    #[error("the denoiser failed: {0}")]
    Denoiser(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The observer asked the sampler to stop.
    #[error("sampling was cancelled after step {step} of {steps}")]
    Cancelled {
        /// Steps finished.
        step: usize,
        /// Steps asked for.
        steps: usize,
    },
    /// A reference file lacks a tensor that others in it need, or has one that cannot be used.
    #[error("reference tensor {name}: {problem}")]
    Reference {
        /// The tensor's name in the file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// libtorch refused an operation.
    #[error(transparent)]
    Torch(#[from] TchError),
}

impl DiffusionError {
    /// Wraps the error of a network, for implementations of [`Denoiser`](crate::Denoiser).
    pub fn denoiser(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Denoiser(error.into())
    }

    pub(crate) fn option(option: &'static str, expected: impl Into<String>, actual: impl ToString) -> Self {
        Self::InvalidOption { option, expected: expected.into(), actual: actual.to_string() }
    }
}
