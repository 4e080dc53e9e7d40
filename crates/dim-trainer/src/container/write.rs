//! Writing: header, tensors, checksum, in one pass.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::header::Header;
use super::{CHUNK_BYTES, CHUNK_ELEMENTS, Metadata};
use crate::error::TrainerError;

/// Writes named float32 tensors, from whatever device, and string metadata to a new file at `path`.
///
/// # Errors
/// [`TrainerError::Write`] naming `path`; [`TrainerError::Libtorch`] if a tensor is not float32 or cannot be copied.
pub fn write(path: &Path, metadata: Metadata, tensors: &[(String, Tensor)]) -> Result<(), TrainerError> {
    let failed = |source| TrainerError::write(path, source);
    let mut file = ChecksumWriter { inner: BufWriter::new(File::create(path).map_err(failed)?), crc: 0 };
    file.write_all(&Header::new(metadata, tensors).to_bytes()).map_err(failed)?;
    let mut buffer = Vec::new();
    for (_, tensor) in tensors {
        for chunk in tensor.f_detach()?.f_reshape([-1])?.f_split(CHUNK_ELEMENTS as i64, 0)? {
            let bytes = chunk.f_to_device(Device::Cpu)?.f_view_dtype(Kind::Uint8)?;
            let length = bytes.numel();
            buffer.resize(buffer.len().max(length.min(CHUNK_BYTES)), 0);
            bytes.f_copy_data_u8(&mut buffer, length)?;
            file.write_all(&buffer[..length]).map_err(failed)?;
        }
    }
    let checksum = file.crc.to_le_bytes();
    file.write_all(&checksum).and_then(|()| file.flush()).map_err(failed)
}

struct ChecksumWriter<W> {
    inner: W,
    crc: u32,
}

impl<W: Write> Write for ChecksumWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
