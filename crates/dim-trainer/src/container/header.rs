//! The header: what safetensors asks for, and what we ask for on top.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Metadata;

/// Name of the last tensor: the four bytes of the checksum.
pub(super) const CHECKSUM: &str = "checksum";
const CHECKSUM_BYTES: u64 = 4;
/// Headers list parameters and a configuration; a longer one is garbage, not a header.
const MAX_HEADER_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    #[serde(rename = "__metadata__")]
    pub(super) metadata: Metadata,
    #[serde(flatten)]
    tensors: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    dtype: String,
    pub(super) shape: Vec<i64>,
    data_offsets: [u64; 2],
}

impl Entry {
    pub(super) fn bytes(&self) -> u64 {
        self.data_offsets[1] - self.data_offsets[0]
    }
}

impl Header {
    pub(super) fn new(metadata: Metadata, tensors: &[(String, Tensor)]) -> Self {
        let mut entries = BTreeMap::new();
        let mut start = 0;
        for (name, tensor) in tensors {
            let end = start + (tensor.numel() * size_of::<f32>()) as u64;
            entries
                .insert(name.clone(), Entry { dtype: "F32".into(), shape: tensor.size(), data_offsets: [start, end] });
            start = end;
        }
        entries.insert(
            CHECKSUM.into(),
            Entry {
                dtype: "U8".into(),
                shape: vec![CHECKSUM_BYTES as i64],
                data_offsets: [start, start + CHECKSUM_BYTES],
            },
        );
        Self { metadata, tensors: entries }
    }

    /// The header as it stands in the file: its length, its JSON, spaces so that the tensors start aligned.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut json = serde_json::json!(self).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut json);
        bytes
    }

    /// Reads and checks a header. The outer error is the system's; the inner one says in words why this is no file of ours.
    pub(super) fn read(file: &mut impl Read, file_bytes: u64) -> io::Result<Result<Self, String>> {
        let mut length = [0; 8];
        if file_bytes < length.len() as u64 {
            return Ok(Err(format!("{file_bytes} bytes are too few for a header")));
        }
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Ok(Err("it does not start with a safetensors header".into()));
        }
        if length > file_bytes - 8 {
            return Ok(Err(format!("its header of {length} bytes is cut off after {}", file_bytes - 8)));
        }
        let mut json = vec![0; length as usize];
        file.read_exact(&mut json)?;
        Ok(serde_json::from_slice::<Self>(&json)
            .map_err(|error| format!("its header does not parse ({error})"))
            .and_then(Self::checked))
    }

    /// Tensors by their place in the file, the checksum last.
    pub(super) fn in_file_order(&self) -> Vec<(&str, &Entry)> {
        let mut entries: Vec<(&str, &Entry)> =
            self.tensors.iter().map(|(name, entry)| (name.as_str(), entry)).collect();
        entries.sort_by_key(|(name, entry)| (entry.data_offsets, *name == CHECKSUM));
        entries
    }

    /// Bytes of all tensors.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.data_offsets[1]).max().unwrap_or(0)
    }

    fn checked(self) -> Result<Self, String> {
        let entries = self.in_file_order();
        let mut start = 0;
        for (name, entry) in &entries {
            let (dtype, width) = if *name == CHECKSUM { ("U8", 1) } else { ("F32", size_of::<f32>() as u64) };
            let bytes =
                entry.shape.iter().try_fold(width, |product, size| product.checked_mul(u64::try_from(*size).ok()?));
            let end = bytes.and_then(|bytes| bytes.checked_add(start));
            if entry.dtype != dtype || entry.data_offsets[0] != start || Some(entry.data_offsets[1]) != end {
                return Err(format!("its tensor `{name}` is not a {dtype} tensor that follows the one before"));
            }
            start = entry.data_offsets[1];
        }
        match entries.last() {
            Some((CHECKSUM, entry)) if entry.bytes() == CHECKSUM_BYTES => Ok(self),
            _ => Err("it has no checksum at its end".into()),
        }
    }
}
