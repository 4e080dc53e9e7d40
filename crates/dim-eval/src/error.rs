//! The errors of this crate.

use dim_model::weights::WeightsError;
use dim_torch::TorchError;
use tch::TchError;

/// What can go wrong in measuring images.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A set of images that is too small for what is asked of it.
    #[error("{quantity} needs at least {needed} images, got {got}")]
    TooFewImages {
        /// What was to be computed.
        quantity: &'static str,
        /// How many it needs.
        needed: u64,
        /// How many there are.
        got: u64,
    },
    /// A feature that is no number.
    #[error(
        "feature {feature} of image {image} is not a finite number; the image or the network's weights are at fault"
    )]
    NotFinite {
        /// Number of the image in its set, from 0.
        image: u64,
        /// Number of the feature, from 0.
        feature: u64,
    },
    /// Numbers of features that differ.
    #[error("{what} must be of {expected} features, got {got}")]
    Dimension {
        /// What was given.
        what: &'static str,
        /// Features expected.
        expected: usize,
        /// What came.
        got: String,
    },
    /// A distance that came out as no number.
    #[error("the Fréchet distance is {value}: the covariances are too large or not finite")]
    Distance {
        /// What came out.
        value: f64,
    },
    /// Images that do not fit the network, or patches that do not fit the images.
    #[error("{argument} must be {expected}, got {got}")]
    Argument {
        /// What was given.
        argument: &'static str,
        /// What it may be.
        expected: String,
        /// What came.
        got: String,
    },
    /// The network's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The network's parameters.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// libtorch refused an operation; out of memory, mostly.
    #[error("libtorch: {0}")]
    Libtorch(#[from] TchError),
}
