//! Networks: DiM on the canonical token order, its scan orders, initialisation and weight formats.
//!
//! Tokens never move. The residual stream, the pads and the skips stay in one canonical order (prefix tokens, then the
//! padded grid in raster order); a block's scan direction is a token map that its convolution and its scan follow. The
//! authors' code permutes the stream in every block; the two are equal because their decoder mirrors their encoder.
//! Source: Teng et al. 2024, "DiM: Diffusion Mamba for Efficient High-Resolution Image Synthesis" (arXiv 2405.14224).

#![forbid(unsafe_code)]

mod authors_config;
mod block;
mod config;
mod cost;
mod dim;
mod embedding;
mod error;
mod init;
mod linear;
mod mamba;
mod norm;
mod procedural;
mod scan_order;
mod skip_tuning;
mod specs;
mod tokens;
mod unet;
pub mod verify;
pub mod weights;

pub use config::{ConfigError, DimConfig, LongSkip, Padding};
pub use cost::Cost;
pub use dim::{Dim, ForwardOptions, Precision};
pub use error::ModelError;
pub use scan_order::{Grid, ScanDirection, directions};
pub use skip_tuning::SkipTuning;
pub use unet::{Unet, UnetConfig};
