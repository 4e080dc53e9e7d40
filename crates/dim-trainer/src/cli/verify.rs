//! `verify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dim_eval::features::LiteSize;

use crate::device::DeviceChoice;

/// `dim-trainer verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The folder of files.
    #[arg(long, value_name = "DIR")]
    pub golden: PathBuf,
    /// Also run the full-size networks: minutes, and up to 4 GB of memory.
    #[arg(long)]
    pub full: bool,
    /// Print every comparison as one JSON object on stdout; the lines for people go to stderr.
    #[arg(long)]
    pub json: bool,
    /// Where the networks and the scan run: `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// In what: f32, or, on a GPU, bf16, where errors may be twice those of a plain evaluation in bf16.
    #[arg(long, value_enum, default_value_t = VerifyPrecision::F32)]
    pub precision: VerifyPrecision,
    /// CPU threads; by default one for each physical core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// The trained weights of EfficientNet-Lite0, without which its features are not compared.
    #[arg(long, value_name = "FILE", default_value = LiteSize::Lite0.installed())]
    pub efficientnet_lite0: PathBuf,
}

/// In what `verify` computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyPrecision {
    /// Everything in f32.
    F32,
    /// Products, convolution and scan in bf16.
    Bf16,
}
