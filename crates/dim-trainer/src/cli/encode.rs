//! `encode`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ComputeArgs, VerifyPrecision};

/// `dim-trainer encode`
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A configuration whose sections `[data]` and `[autoencoder]` count, and whose network says how large the images are.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["data", "check"])]
    pub config: Option<PathBuf>,
    /// Set a key of the configuration; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    pub set: Vec<String>,
    /// The images, in place of the configuration's: a folder of class folders, or of WebDataset's tar files.
    #[arg(long, value_name = "DIR|TAR")]
    pub data: Option<PathBuf>,
    /// The autoencoder's weights; by default the configuration's `autoencoder.weights`. Without a configuration: those of KL-f8, or of one
    /// that says its own sizes.
    #[arg(long, value_name = "FILE")]
    pub autoencoder: Option<PathBuf>,
    /// Side of the images in pixels; by default what the configuration's network works on.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub image_size: Option<u32>,
    /// The folder to fill; an encoding in it that was stopped goes on.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// In what numbers latents are stored: f16 and bf16 take half the space.
    #[arg(long, value_enum, default_value_t = StoredAs::F32)]
    pub store: StoredAs,
    /// In what the autoencoder computes; bf16 on GPUs only.
    #[arg(long, value_enum, default_value_t = VerifyPrecision::F32)]
    pub precision: VerifyPrecision,
    /// Leave out the mirror images, which `train.random_flip` needs: half the space and time.
    #[arg(long)]
    pub no_mirror: bool,
    /// Images of a file; by default as many as take 256 MiB. What is being encoded when the work stops is lost with its file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub images_per_shard: Option<u32>,
    /// Images that are read at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch_size: u32,
    /// Broken image files to leave out; one more ends the work.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_broken_files: usize,
    /// Encode nothing: read what stands in the folder and compare every byte with its checksum.
    #[arg(long, conflicts_with_all = ["config", "data", "autoencoder", "image_size"])]
    pub check: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
}

/// In what numbers latents are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoredAs {
    /// 32 bits.
    F32,
    /// 16 bits, 11 of them significant.
    F16,
    /// 16 bits, 8 of them significant.
    Bf16,
}
