//! Latents on disk: what an autoencoder made of every image, once, so that training need not do it at every step.
//!
//! ```text
//! DIR/encoding.json         what is encoded and how, written first; a stopped encoding goes on only with the same
//! DIR/000000.safetensors    shards of `images_per_shard` images of the source, each written whole or not at all
//! DIR/index.json            written last: the encoding, every shard with its checksum, statistics of the channels
//! ```
//!
//! A shard is a safetensors file with `checksums` [image, 1 or 2] and `labels` [image] (i64), then `moments` and, unless mirror images
//! were left out, `mirrored`, both [image, 2 × latent channel, row, column] in f32, f16 or bf16: means before logarithms of variances,
//! not scaled. `checksums` are the CRC-32C of each image's bytes in these two tensors; `index.json` has that of everything that stands
//! before them. The metadata have one entry, `dim_latents`, a [`ShardNote`] in JSON. An image that could not be read has no row.
//!
//! The same images, autoencoder and options give the same bytes, however often the work was stopped.

mod check;
mod element;
mod encoding;
mod folder;
mod reader;
mod shard;
#[cfg(test)]
mod tests;

pub use check::{CheckReport, check};
pub use element::Element;
pub use encoding::{Encoding, Index, ShardEntry, Statistics, Sums};
pub use folder::LatentFolder;
pub use reader::{Latents, LatentsConfig};
pub use shard::{Shard, ShardNote, Skipped};

/// What to do about a folder that is no encoding, or a damaged one.
const MEND: &str = "check the path; `dim-trainer encode` makes such a folder, finishes one that was stopped, and checks one with --check";
