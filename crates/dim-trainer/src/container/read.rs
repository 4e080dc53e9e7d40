//! Reading: every byte is checked, and each tensor goes straight to where it belongs.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use tch::{Kind, Tensor};

use super::header::{CHECKSUM, Header};
use super::{CHUNK_BYTES, CHUNK_ELEMENTS, Metadata};
use crate::error::TrainerError;

/// Reads a file that [`write`](super::write()) made, and checks all of it.
///
/// `check` sees the metadata before any tensor is read, so that a wrong version is told as such. `destination` gets the name and shape
/// of each tensor and says where its values go: a contiguous float32 tensor of as many elements, on any device, or `None` to
/// skip it. After an error the destinations hold whatever was read until then.
///
/// # Errors
/// [`TrainerError::Read`], [`TrainerError::NotACheckpoint`], [`TrainerError::Truncated`], [`TrainerError::Corrupt`], and what the two functions return.
pub fn read(
    path: &Path,
    check: impl FnOnce(&Metadata) -> Result<(), TrainerError>,
    mut destination: impl FnMut(&str, &[i64]) -> Result<Option<Tensor>, TrainerError>,
) -> Result<Metadata, TrainerError> {
    let not_ours = |reason| TrainerError::NotACheckpoint { path: path.to_owned(), reason, older: None };
    let failed = |source| TrainerError::read(path, source);
    let file = File::open(path).map_err(failed)?;
    let got = file.metadata().map_err(failed)?.len();
    let mut file = ChecksumReader { inner: BufReader::new(file), crc: 0, position: 0 };

    let header = Header::read(&mut file, got).map_err(failed)?.map_err(not_ours)?;
    check(&header.metadata)?;
    let expected = file.position + header.payload_bytes();
    if got < expected {
        return Err(TrainerError::Truncated { path: path.to_owned(), expected, got, older: None });
    }
    if got > expected {
        return Err(not_ours(format!("{} bytes follow its last tensor", got - expected)));
    }

    let mut buffer = Vec::new();
    for (name, entry) in header.in_file_order() {
        if name == CHECKSUM {
            continue;
        }
        let target = destination(name, &entry.shape)?.map(|tensor| tensor.f_view([-1])).transpose()?;
        read_tensor(&mut file, entry.bytes() as usize, target.as_ref(), &mut buffer, path)?;
    }
    let got = file.crc;
    let mut checksum = [0; 4];
    file.read_exact(&mut checksum).map_err(failed)?;
    let expected = u32::from_le_bytes(checksum);
    if got != expected {
        return Err(TrainerError::Corrupt { path: path.to_owned(), expected, got, older: None });
    }
    Ok(header.metadata)
}

/// The metadata alone; nothing else is checked.
///
/// # Errors
/// [`TrainerError::Read`]; [`TrainerError::NotACheckpoint`] for a header that is none of ours.
pub fn metadata(path: &Path) -> Result<Metadata, TrainerError> {
    let failed = |source| TrainerError::read(path, source);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let header = Header::read(&mut BufReader::new(file), bytes).map_err(failed)?;
    let not_ours = |reason| TrainerError::NotACheckpoint { path: path.to_owned(), reason, older: None };
    Ok(header.map_err(not_ours)?.metadata)
}

/// Reads `bytes` of floats into `target`, or past them if there is none.
fn read_tensor(
    file: &mut impl Read,
    bytes: usize,
    target: Option<&Tensor>,
    buffer: &mut Vec<u8>,
    path: &Path,
) -> Result<(), TrainerError> {
    buffer.resize(buffer.len().max(bytes.min(CHUNK_BYTES)), 0);
    let elements = bytes / size_of::<f32>();
    for start in (0..elements).step_by(CHUNK_ELEMENTS) {
        let length = CHUNK_ELEMENTS.min(elements - start);
        let chunk = &mut buffer[..length * size_of::<f32>()];
        file.read_exact(chunk).map_err(|source| TrainerError::read(path, source))?;
        if let Some(target) = target {
            let values = Tensor::f_from_data_size(chunk, &[length as i64], Kind::Float)?;
            target.f_narrow(0, start as i64, length as i64)?.f_copy_(&values)?;
        }
    }
    Ok(())
}

struct ChecksumReader<R> {
    inner: R,
    crc: u32,
    position: u64,
}

impl<R: Read> Read for ChecksumReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..count]);
        self.position += count as u64;
        Ok(count)
    }
}
