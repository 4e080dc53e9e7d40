//! The file format of checkpoints: safetensors whose last tensor is the checksum of every byte before it.
//!
//! Any safetensors reader opens such a file. It is written and read in one pass, a chunk at a time, so that an optimiser's state
//! never stands twice in host memory. Layout: 8 bytes header length (little endian), the JSON header, the tensors' bytes (float32),
//! CRC-32C (little endian).

mod header;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{metadata, read};
pub use write::write;

/// String metadata, in the order of its keys.
pub type Metadata = std::collections::BTreeMap<String, String>;

/// What goes between the device and the file at a time.
const CHUNK_BYTES: usize = 64 << 20;
const CHUNK_ELEMENTS: usize = CHUNK_BYTES / size_of::<f32>();
