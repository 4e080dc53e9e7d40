//! The program `dim-trainer`: train, sample, inspect, verify. The only crate that sees all the others.
//!
//! ```text
//! cli ─▶ commands ─▶ train (loop, checkpoints, logs)
//!            │   ├──▶ ema: averages of the weights, any profile after training
//!            │   └──▶ sampling ─▶ grid
//!            └─ config: TOML file + overrides, checked as a whole
//! ```

#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod config;
pub mod container;
mod denoiser;
mod device;
pub mod ema;
mod error;
mod evaluation;
mod files;
mod first_stage;
mod flat;
pub mod format;
mod grid;
mod launch;
mod png_file;
mod progress;
mod provenance;
mod run_folder;
pub mod sampling;
pub mod snapshot;
pub mod train;
pub mod verify;

pub use denoiser::Network;
pub use device::{CudaGraphs, DeviceChoice};
pub use error::TrainerError;
pub use evaluation::Scores;
pub use files::{write_atomically, write_bytes_atomically};
pub use first_stage::FirstStage;
pub use grid::{Picture, grid};
pub use run_folder::RunFolder;
