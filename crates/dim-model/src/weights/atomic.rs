//! Files that are either the old one or the whole new one.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use super::WeightsError;

/// Writes a file through `write` so that `path` holds the old file or the whole new one at every moment.
///
/// The bytes go to a temporary file in the same folder, which is flushed to the disk and then renamed. On any error
/// the temporary file is removed and an existing file stays as it was.
///
/// # Errors
/// Whatever `write` returns, or [`WeightsError::Io`] when the folder cannot be written to or the disk is full.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    let failed = |action| move |source: io::Error| WeightsError::Io { action, path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(failed("write")(io::ErrorKind::IsADirectory.into()));
    }
    let temporary = builder().tempfile_in(folder).map_err(failed("create a temporary file beside"))?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    write(&mut writer)?;
    writer.flush().map_err(failed("write"))?;
    drop(writer);
    temporary.as_file().sync_all().map_err(failed("flush to the disk"))?;
    temporary.persist(path).map_err(|error| failed("rename the temporary file to")(error.error))?;
    sync_folder(folder).map_err(failed("flush to the disk the folder of"))
}

/// Temporary files are private by default; weights get the permissions of any other file (less the umask).
#[cfg(unix)]
fn builder() -> tempfile::Builder<'static, 'static> {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    let mut builder = tempfile::Builder::new();
    builder.prefix(".weights-").suffix(".tmp").permissions(Permissions::from_mode(0o666));
    builder
}

#[cfg(not(unix))]
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".weights-").suffix(".tmp");
    builder
}

/// Makes the rename itself outlast a power failure.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
