//! The safetensors format: a JSON header with names, types, shapes and offsets, then the bytes.
//!
//! The tensors are read and written one after the other with plain reads and writes, not through a memory map: a map
//! would change under a program when the file is overwritten, and this crate has no unsafe code to make one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tch::Tensor;

use super::{
    WeightsError,
    atomic::write_atomically,
    bytes::{ByteOrder, Transfer, TransferError},
    element,
    file::{Entry, FileContext},
};

/// Length of the number at the start of a file that says how long the header is.
const LENGTH_BYTES: u64 = 8;

/// The key of the header that holds the metadata; no tensor can have this name.
const METADATA_KEY: &str = "__metadata__";

/// The longest header that the format's own library accepts.
const LONGEST_HEADER: u64 = 100_000_000;

/// An open safetensors file.
#[derive(Debug)]
pub(super) struct Safetensors {
    file: File,
    /// Where each tensor starts in the file.
    starts: Vec<u64>,
    transfer: Transfer,
}

/// The tensors of a file in the order in which they lie in it, and its metadata.
type Contents = (Vec<Entry>, BTreeMap<String, String>);

impl Safetensors {
    /// Reads and checks the header.
    pub(super) fn open(mut file: File, context: &FileContext) -> Result<(Self, Contents), WeightsError> {
        let length = context.length;
        let mut header_length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut header_length).map_err(context.io("read"))?;
        let header_length = u64::from_le_bytes(header_length);
        let data_start = header_length.saturating_add(LENGTH_BYTES);
        if data_start > length {
            return Err(context.truncated(data_start));
        }
        if header_length > LONGEST_HEADER {
            let expected = format!("at most {LONGEST_HEADER} bytes");
            return Err(context.corrupt("length of the header", expected, format!("{header_length} bytes")));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(context.io("read"))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| context.corrupt("header", "a consistent safetensors header", error))?;

        let end = data_start.saturating_add(header.data_len() as u64);
        if end > length {
            return Err(context.truncated(end));
        }
        if end < length {
            return Err(context.corrupt("end of file", format!("{end} bytes"), format!("{length} bytes")));
        }

        let mut entries = Vec::new();
        let mut starts = Vec::new();
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else { continue };
            entries.push(entry(&name, info, context)?);
            starts.push(data_start + info.data_offsets.0 as u64);
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok((Self { file, starts, transfer: Transfer::default() }, (entries, metadata)))
    }

    /// Reads tensor number `index`, which `entry` describes.
    pub(super) fn read(&mut self, index: usize, entry: &Entry, context: &FileContext) -> Result<Tensor, WeightsError> {
        self.file.seek(SeekFrom::Start(self.starts[index])).map_err(context.io("read"))?;
        let count = entry.shape.iter().product(); // checked when the header was read
        self.transfer
            .read(&mut self.file, count, entry.kind, ByteOrder::Little)
            .and_then(|flat| Ok(flat.f_view(entry.shape.as_slice())?))
            .map_err(|error| context.transfer(&entry.name, error))
    }
}

fn entry(name: &str, info: &TensorInfo, context: &FileContext) -> Result<Entry, WeightsError> {
    let kind = element::kind_of_dtype(info.dtype).ok_or_else(|| WeightsError::UnsupportedType {
        path: context.path.clone(),
        tensor: name.to_owned(),
        got: format!("{:?}", info.dtype),
    })?;
    let shape: Option<Vec<i64>> = info.shape.iter().map(|&size| i64::try_from(size).ok()).collect();
    let shape = shape
        .filter(|shape| element::count_and_bytes(shape, kind).is_some())
        .ok_or_else(|| context.corrupt("header", "sizes that libtorch can count", format!("{:?}", info.shape)))?;
    Ok(Entry { name: name.to_owned(), shape, kind })
}

/// Writes tensors under their names, in their order (the widest types first, as the format's alignment asks).
pub(super) fn write(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let mut seen = BTreeSet::from([METADATA_KEY]);
    let unusable: Vec<String> =
        tensors.iter().map(|(name, _)| name).filter(|name| !seen.insert(name)).cloned().collect();
    if !unusable.is_empty() {
        return Err(WeightsError::UnusableNames { names: unusable });
    }

    let mut typed = tensors.iter().map(|(name, tensor)| typed(path, name, tensor)).collect::<Result<Vec<_>, _>>()?;
    typed.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
    let header = Header { tensors: infos(&typed), metadata };
    let mut header = serde_json::to_vec(&header).map_err(|error| WeightsError::Io {
        action: "write",
        path: path.to_owned(),
        source: error.into(),
    })?;
    header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');

    write_atomically(path, |writer| {
        let failed = |error| match error {
            TransferError::Stream(source) => WeightsError::Io { action: "write", path: path.to_owned(), source },
            TransferError::Libtorch(source) => {
                WeightsError::Libtorch { action: format!("writing {}", path.display()), source }
            }
        };
        writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(|error| failed(error.into()))?;
        writer.write_all(&header).map_err(|error| failed(error.into()))?;
        let mut transfer = Transfer::default();
        typed.iter().try_for_each(|tensor| transfer.write(writer, tensor.tensor)).map_err(failed)
    })
}

/// A tensor whose type the format has.
struct Typed<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    dtype: Dtype,
}

fn typed<'a>(path: &Path, name: &'a str, tensor: &'a Tensor) -> Result<Typed<'a>, WeightsError> {
    let kind = tensor.f_kind();
    let dtype = kind.as_ref().ok().and_then(|kind| element::dtype_of_kind(*kind));
    let dtype = dtype.ok_or_else(|| WeightsError::UnsupportedType {
        path: path.to_owned(),
        tensor: name.to_owned(),
        got: kind.map_or_else(|error| error.to_string(), |kind| format!("{kind:?}")),
    })?;
    Ok(Typed { name, tensor, dtype })
}

/// Shapes, types and places, one tensor behind the other.
fn infos<'a>(tensors: &[Typed<'a>]) -> Vec<(&'a str, TensorInfo)> {
    let mut end = 0;
    let describe = |tensor: &Typed<'a>| {
        let start = end;
        end += tensor.tensor.numel() * tensor.dtype.bitsize() / 8;
        let shape = tensor.tensor.size().iter().map(|size| size.unsigned_abs() as usize).collect();
        (tensor.name, TensorInfo { dtype: tensor.dtype, shape, data_offsets: (start, end) })
    };
    tensors.iter().map(describe).collect()
}

/// The header, written in the order of the tensors and of the metadata's keys: the same weights give the same bytes.
struct Header<'a> {
    tensors: Vec<(&'a str, TensorInfo)>,
    metadata: &'a BTreeMap<String, String>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA_KEY, self.metadata)?;
        }
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}
