//! Reading at any place of a file, from many threads at once.

use std::fs::File;
use std::io;
use std::path::Path;

/// Files that a source keeps open; the others are opened for each read. Systems let a process have 1024 open by default.
const KEPT_OPEN: usize = 512;

/// Files that are read at random.
#[derive(Debug)]
pub(crate) struct Files<P> {
    files: Vec<(P, Option<File>)>,
}

impl<P: AsRef<Path>> Files<P> {
    pub(crate) fn new(paths: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let open = |(index, path): (usize, P)| {
            let file = if index < KEPT_OPEN { Some(File::open(&path)?) } else { None };
            Ok((path, file))
        };
        Ok(Self { files: paths.into_iter().enumerate().map(open).collect::<io::Result<_>>()? })
    }

    pub(crate) fn path(&self, index: usize) -> &Path {
        self.files[index].0.as_ref()
    }

    /// Fills `bytes` from a place of file `index`.
    pub(crate) fn read_exact_at(&self, index: usize, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.files[index] {
            (_, Some(file)) => read_exact_at(file, bytes, offset),
            (path, None) => read_exact_at(&File::open(path)?, bytes, offset),
        }
    }
}

/// Fills `bytes` from a place of the file.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Fills `bytes` from a place of the file.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
