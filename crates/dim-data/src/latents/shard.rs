//! One shard: filled in memory, written as a whole; its head is read, and its records wherever they are wanted.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::encoding::{Encoding, Sums, io, wrong};
use crate::read_at::read_exact_at;
use crate::{BrokenFile, DataError};

/// The only key of the metadata.
const NOTE: &str = "dim_latents";
/// A head lists images that were skipped; a longer one is garbage.
const LONGEST_HEADER: u64 = 64 << 20;
const RECORDS: [&str; 2] = ["moments", "mirrored"];

/// What a shard says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardNote {
    /// CRC-32C of `encoding.json`.
    pub encoding: u32,
    /// Which shard it is, from 0.
    pub shard: usize,
    /// Images that have no row, since they could not be read.
    pub skipped: Vec<Skipped>,
    /// Sums over the moments.
    pub sums: Sums,
}

/// An image that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Its index in the source.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Why it could not be read.
    pub reason: String,
}

impl From<&BrokenFile> for Skipped {
    fn from(broken: &BrokenFile) -> Self {
        Self { index: broken.index, name: broken.name.clone(), reason: broken.reason.clone() }
    }
}

/// A shard that is being filled.
#[derive(Debug)]
pub struct Shard {
    encoding: Encoding,
    note: ShardNote,
    labels: Vec<i64>,
    checksums: Vec<i64>,
    /// Bytes of `moments`, and of `mirrored`.
    records: [Vec<u8>; 2],
}

impl Shard {
    pub(super) fn new(encoding: &Encoding, encoding_crc: u32, shard: usize) -> Self {
        let bytes = encoding.images_of(shard).len() * encoding.record_bytes();
        let mirrored = if encoding.mirrored { bytes } else { 0 };
        let sums = Sums::zero(encoding.latent_channels);
        Self {
            encoding: encoding.clone(),
            note: ShardNote { encoding: encoding_crc, shard, skipped: Vec::new(), sums },
            labels: Vec::new(),
            checksums: Vec::new(),
            records: [Vec::with_capacity(bytes), Vec::with_capacity(mirrored)],
        }
    }

    /// Which shard it is.
    #[must_use]
    pub fn number(&self) -> usize {
        self.note.shard
    }

    /// Adds an image: its class, and its moments and those of its mirror image, each `[2 × latent channel, row, column]`.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] for another number of moments or of values in them, for a class that there is none of, and for values
    /// that are not finite as they are stored.
    pub fn push(&mut self, class: usize, moments: &[&[f32]]) -> Result<(), DataError> {
        let argument = |name, expected, found| Err(DataError::Argument { name, expected, found });
        let (records, length) = (self.encoding.records_per_image(), self.encoding.record_len());
        if moments.len() != records || moments.iter().any(|values| values.len() != length) {
            let found = format!(
                "{:?}, not {records} of {length}",
                moments.iter().map(|values| values.len()).collect::<Vec<_>>()
            );
            return argument("moments", "those of the image, and of its mirror image if the encoding has them", found);
        }
        if class >= self.encoding.classes.len() {
            return argument("class", "one of the encoding's", class.to_string());
        }
        if self.labels.len() + self.note.skipped.len() >= self.encoding.images_of(self.note.shard).len() {
            return argument("images of a shard", "as many as belong to it", "one more".into());
        }
        let element = self.encoding.element;
        let mut stored = vec![0.0_f32; length];
        for (values, bytes) in moments.iter().zip(&mut self.records) {
            let start = bytes.len();
            element.encode(values, bytes);
            element.decode(&mut stored, |into| {
                into.copy_from_slice(&bytes[start..]);
                Ok::<(), DataError>(())
            })?;
            if let Some(value) = stored.iter().position(|value| !value.is_finite()) {
                let found = format!("{} stored as {}", values[value], stored[value]);
                return argument("moments", "finite numbers, also as they are stored", found);
            }
            self.note.sums.add(&stored);
            self.checksums.push(i64::from(crc32c::crc32c(&bytes[start..])));
        }
        self.labels.push(class as i64);
        Ok(())
    }

    /// Notes an image that has no row.
    pub fn skip(&mut self, broken: &BrokenFile) {
        self.note.skipped.push(broken.into());
    }

    /// The file.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let missing = self.encoding.images_of(self.note.shard).len() - self.labels.len() - self.note.skipped.len();
        if missing > 0 {
            return Err(format!("{missing} of its images are missing"));
        }
        let (size, channels) = (self.encoding.latent_size, 2 * self.encoding.latent_channels);
        let (images, records) = (self.labels.len(), self.encoding.records_per_image());
        let as_bytes = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (labels, checksums) = (as_bytes(&self.labels), as_bytes(&self.checksums));
        let view = |dtype, shape: &[usize], bytes| {
            TensorView::new(dtype, shape.to_vec(), bytes).map_err(|error| error.to_string())
        };
        let mut tensors = vec![
            ("labels", view(Dtype::I64, &[images], &labels)?),
            ("checksums", view(Dtype::I64, &[images, records], &checksums)?),
        ];
        for (name, bytes) in RECORDS.iter().zip(&self.records).take(records) {
            tensors.push((name, view(self.encoding.element.dtype(), &[images, channels, size, size], bytes)?));
        }
        let note = serde_json::to_string(&self.note).map_err(|error| error.to_string())?;
        // One key only: the order in which a hash map gives several is not the same twice.
        serialize(tensors, Some(HashMap::from([(NOTE.to_owned(), note)]))).map_err(|error| error.to_string())
    }
}

/// What stands before the moments in the file of a shard, checked against the encoding.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) note: ShardNote,
    pub(super) labels: Vec<u32>,
    /// CRC-32C of each record: of image 0, of its mirror image, of image 1 …
    pub(super) checksums: Vec<u32>,
    /// Where `moments` begins, and `mirrored`.
    starts: [u64; 2],
    /// CRC-32C of all that stands before the moments.
    pub(super) crc32c: u32,
    /// Length of the file.
    pub(super) bytes: u64,
}

impl Head {
    /// Reads and checks it; the moments themselves are not read.
    pub(super) fn read(path: &Path, encoding: &Encoding, shard: usize) -> Result<Self, DataError> {
        let failed = |error| io(path, "reading it", error);
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut length = [0; 8];
        if bytes < 8 {
            return Err(wrong(path, "a shard of latents", format!("{bytes} bytes")));
        }
        read_exact_at(&file, &mut length, 0).map_err(failed)?;
        let header_length = u64::from_le_bytes(length);
        if header_length > LONGEST_HEADER.min(bytes - 8) {
            return Err(wrong(path, "a safetensors header", format!("none in its {bytes} bytes")));
        }
        let mut head = vec![0; 8 + header_length as usize];
        read_exact_at(&file, &mut head, 0).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&head[8..])
            .map_err(|error| wrong(path, "a safetensors header", error.to_string()))?;
        let note = metadata.metadata().as_ref().and_then(|metadata| metadata.get(NOTE));
        let note = note.ok_or_else(|| wrong(path, "a shard of latents", format!("no `{NOTE}` in its metadata")))?;
        let note: ShardNote =
            serde_json::from_str(note).map_err(|error| wrong(path, "a shard's note", error.to_string()))?;

        let all = encoding.images_of(shard).len();
        let Some(images) = all.checked_sub(note.skipped.len()) else {
            return Err(wrong(path, &format!("at most {all} skipped images"), note.skipped.len().to_string()));
        };
        if note.shard != shard {
            return Err(wrong(path, &format!("shard {shard}"), format!("shard {}", note.shard)));
        }
        if [&note.sums.mean, &note.sums.mean_squared, &note.sums.variance]
            .iter()
            .any(|sum| sum.len() != encoding.latent_channels)
        {
            return Err(wrong(path, &format!("sums of {} channels", encoding.latent_channels), "others".into()));
        }
        let layout = Layout::new(encoding, images);
        layout.check(&metadata).map_err(|(expected, found)| wrong(path, &expected, found))?;
        let start = head.len() as u64;
        let expected = start + layout.end;
        if bytes != expected {
            let mend = "delete this shard and run the encoding again: it makes what is missing";
            return Err(DataError::WrongLength { path: path.to_owned(), expected, found: bytes, mend });
        }
        let tables = head.len();
        head.resize(tables + layout.tables, 0);
        read_exact_at(&file, &mut head[tables..], start).map_err(failed)?;
        let word = |bytes: &[u8]| u32::try_from(u64::from_le_bytes(bytes.try_into().unwrap_or_default())).ok();
        let words: Option<Vec<u32>> = head[tables..].chunks_exact(8).map(word).collect();
        let mut checksums = words.ok_or_else(|| wrong(path, "labels and checksums below 2^32", "others".into()))?;
        let labels = checksums.split_off(images * encoding.records_per_image());
        if let Some(index) = labels.iter().position(|&label| label as usize >= encoding.classes.len()) {
            let (class, classes) = (labels[index] as usize, encoding.classes.len());
            return Err(DataError::ClassOutOfRange { path: path.to_owned(), index, class, classes, mend: super::MEND });
        }
        let starts = layout.starts.map(|offset| start + offset);
        Ok(Self { note, labels, checksums, starts, crc32c: crc32c::crc32c(&head), bytes })
    }

    /// Where the moments of an image, or of its mirror image, begin in the file.
    pub(super) fn offset(&self, encoding: &Encoding, image: usize, mirrored: bool) -> u64 {
        self.starts[usize::from(mirrored)] + (image * encoding.record_bytes()) as u64
    }

    /// The checksum of these moments.
    pub(super) fn checksum(&self, encoding: &Encoding, image: usize, mirrored: bool) -> u32 {
        self.checksums[image * encoding.records_per_image() + usize::from(mirrored)]
    }
}

/// Where the tensors must stand, counted from the end of the header: checksums and labels, then mirrored and moments.
struct Layout {
    /// Bytes of checksums and labels.
    tables: usize,
    tensors: Vec<(&'static str, Dtype, Vec<usize>, usize)>,
    starts: [u64; 2],
    end: u64,
}

impl Layout {
    fn new(encoding: &Encoding, images: usize) -> Self {
        let records = encoding.records_per_image();
        let (size, channels) = (encoding.latent_size, 2 * encoding.latent_channels);
        let tables = 8 * images * (records + 1);
        let bytes = images * encoding.record_bytes();
        // In the order in which the library lays tensors out: by width, then by name.
        let mut tensors = vec![
            ("checksums", Dtype::I64, vec![images, records], 0),
            ("labels", Dtype::I64, vec![images], 8 * images * records),
        ];
        let shape = vec![images, channels, size, size];
        let dtype = encoding.element.dtype();
        let moments = tables + if encoding.mirrored { bytes } else { 0 };
        if encoding.mirrored {
            tensors.push(("mirrored", dtype, shape.clone(), tables));
        }
        tensors.push(("moments", dtype, shape, moments));
        Self { tables, tensors, starts: [moments as u64, tables as u64], end: (moments + bytes) as u64 }
    }

    fn check(&self, metadata: &Metadata) -> Result<(), (String, String)> {
        for (name, dtype, shape, start) in &self.tensors {
            let expected = format!("`{name}` {shape:?} {dtype:?} at byte {start}");
            let Some(info) = metadata.info(name) else { return Err((expected, "none".into())) };
            if info.dtype != *dtype || info.shape != *shape || info.data_offsets.0 != *start {
                return Err((expected, format!("{:?} {:?} at byte {}", info.shape, info.dtype, info.data_offsets.0)));
            }
        }
        match metadata.tensors().len() {
            found if found == self.tensors.len() => Ok(()),
            found => Err((format!("{} tensors", self.tensors.len()), found.to_string())),
        }
    }
}
