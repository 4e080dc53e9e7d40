//! Numbers about images: what a network sees in them, and how far two sets of images, or two images, are apart.
//!
//! ```text
//! images ─▶ features (EfficientNet-Lite0) ─▶ statistics (mean, covariance) ─▶ frechet (one number for two sets)
//!    │         └─▶ perceptual (a distance of two images, with gradients)
//!    └─▶ patches: the same numbers at full resolution, for images larger than the network's input
//! ```
//!
//! Reading files and resizing images is not done here: see `docs/evaluation.md` for how they are to be done.

#![forbid(unsafe_code)]

mod error;
pub mod features;
mod frechet;
mod patches;
mod perceptual;
mod statistics;
pub mod verify;

pub use error::EvalError;
pub use frechet::{Gaussian, frechet_distance};
pub use patches::PatchGrid;
pub use perceptual::Perceptual;
pub use statistics::Statistics;
