//! Images and latents on the host: sources, transforms, a resumable order and a prefetching loader. No tensor library.
//!
//! Data flows one way:
//!
//! ```text
//! DataConfig ──open──▶ ImageSource ──transform──▶ Source ──Order, workers──▶ Loader ──▶ Batch ──▶ (a tensor, elsewhere)
//!                          │                        ▲
//!                          └──Pass──▶ (encoder, elsewhere) ──▶ latents on disk
//! ```
//!
//! What a run sees is a function of the files, the seed and `images_seen`, the number of images that the run has
//! consumed so far. Nothing else enters: not the number of worker threads, not the batch at which the run was stopped and
//! resumed, not the time. So the state of the data pipeline that a checkpoint must carry is one integer.
//!
//! ```no_run
//! use dim_data::{DataConfig, Loader, LoaderConfig, Order, open, sources::FolderConfig};
//!
//! # fn main() -> Result<(), dim_data::DataError> {
//! let config = DataConfig::Folder(FolderConfig { path: "photos".into() });
//! let source = open(&config, 32)?;
//! let order = Order::new(7, source.len())?;
//! let loader = Loader::new(source, order, LoaderConfig { batch_size: 64, size: 32, ..LoaderConfig::default() })?;
//! for batch in loader {
//!     let batch = batch?; // batch.images: [image, channel, row, column] in [-1, 1]
//!     for broken in &batch.broken {
//!         eprintln!("skipped {broken}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod atomic_file;
mod config;
mod decode;
mod error;
mod image;
pub mod latents;
mod loader;
mod mix;
mod npz;
mod order;
mod pass;
mod read_at;
mod source;
pub mod sources;
pub mod transform;

pub use config::{DataConfig, Split, open, open_any};
pub use error::{BrokenFile, DataError};
pub use image::{Image, Sample};
pub use loader::{Batch, Loader, LoaderConfig};
pub use npz::{Npz, NpzArray};
pub use order::Order;
pub use pass::{Pass, PassBatch, PassConfig};
pub use source::{ImageSource, Pixels, Source};
