//! Schedules, objectives, guidance and samplers over a [`Denoiser`]; knows no network.
//!
//! - [`schedule`]: how much signal and noise there is at each time
//! - [`Prediction`]: what a network's output stands for
//! - [`noise`]: random numbers that depend on a seed and a sample, never on the batch around it
//! - [`objective`]: the training loss, which times it draws and how they count
//! - [`guidance`]: a denoiser that follows its class more closely
//! - [`upsample`]: a denoiser of larger images than the network was trained on
//! - [`sampler`]: from noise to images
//! - [`verify`]: all of it against reference tensors

#![forbid(unsafe_code)]

mod check;
mod denoiser;
mod error;
pub mod guidance;
pub mod noise;
pub mod objective;
mod prediction;
pub mod sampler;
pub mod schedule;
mod upload;
pub mod upsample;
pub mod verify;

pub use denoiser::Denoiser;
pub use error::DiffusionError;
pub use prediction::Prediction;
pub use upload::upload;
