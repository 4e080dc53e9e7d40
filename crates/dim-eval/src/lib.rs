//! Numbers about images: what a network sees in them, and how far two sets of images, or two images, are apart.
//!
//! ```text
//! images ─▶ features (Inception, DINOv2, EfficientNet-Lite) ─▶ statistics (mean, covariance) ─▶ frechet (FID, sFID: one number for two sets)
//!    │         │ │ │                                  └─▶ neighbours (precision, recall, density, coverage), kernel (KID)
//!    │         │ │ └─▶ inception_score (of one set)
//!    │         └─▶ perceptual (a distance of two images, with gradients)
//!    └─▶ patches: the same numbers at full resolution, for images larger than the network's input
//! ```
//!
//! Reading files and resizing images is not done here: see `docs/evaluation.md` for how they are to be done.

#![forbid(unsafe_code)]

mod error;
pub mod features;
mod frechet;
mod inception_score;
mod kernel;
mod neighbours;
mod patches;
mod perceptual;
mod statistics;
pub mod verify;

pub use error::EvalError;
pub use frechet::{Gaussian, frechet_distance};
pub use inception_score::{InceptionScore, MeanStd};
pub use kernel::{Subsets, kernel_distance, kernel_distance_of_all};
pub use neighbours::{Neighbours, neighbours, radii};
pub use patches::PatchGrid;
pub use perceptual::Perceptual;
pub use statistics::Statistics;
