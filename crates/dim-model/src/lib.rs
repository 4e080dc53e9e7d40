//! Networks: DiM, and the transformers and the U-Net it is measured against; their initialisation and weight formats.
//!
//! A network is built in three steps: a configuration says its sizes ([`ModelConfig`]), its parameters live in one flat
//! buffer ([`dim_torch::Parameters`]), and a [`Backbone`] computes with them. All of them predict, from a noisy image, its
//! time and its class, the noise in it.
//!
//! In DiM tokens never move. The residual stream, the pads and the skips stay in one canonical order (prefix tokens, then the
//! padded grid in raster order); a block's scan direction is a token map that its convolution and its scan follow. The
//! authors' code permutes the stream in every block; the two are equal because their decoder mirrors their encoder.
//! Source: Teng et al. 2024, "DiM: Diffusion Mamba for Efficient High-Resolution Image Synthesis" (arXiv 2405.14224).

#![forbid(unsafe_code)]

mod autoencoder;
mod backbone;
mod config_checks;
mod cost;
mod dim;
mod dit;
mod error;
mod grid;
mod init;
mod layers;
mod model_config;
mod observer;
mod precision;
mod procedural;
mod recompute;
mod specs;
mod unet;
mod uvit;
pub mod verify;
pub mod weights;

pub use autoencoder::{Autoencoder, AutoencoderConfig, Moments, Tiling};
pub use backbone::{Backbone, BackboneConfig};
pub use cost::Cost;
pub use dim::{
    Dim, DimConfig, ForwardOptions, Initialisation, LongSkip, Padding, ScanDirection, SkipTuning, directions,
};
pub use dit::{Dit, DitConfig};
pub use error::{ConfigError, ModelError};
pub use grid::Grid;
pub use model_config::ModelConfig;
pub use precision::Precision;
pub use recompute::Recompute;
pub use unet::{Unet, UnetConfig};
pub use uvit::{Uvit, UvitConfig};
