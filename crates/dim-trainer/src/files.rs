//! Files that are either whole or absent: what a crash, a full disk or `kill -9` leaves behind is the old file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::TrainerError;

/// How the names of files begin and end that are still being written, here and in `dim_model::weights`.
const TEMPORARY: (&str, &str) = (".", ".tmp");

/// Writes `path` through a temporary file in the same folder: write, flush to disk, rename, flush the folder.
///
/// `write` gets the path of the temporary file and must create it. Whatever fails, a file that stood at `path` before stays as it
/// was, and the temporary file is removed.
///
/// # Errors
/// What `write` returns, or [`TrainerError::Write`] naming `path`.
pub fn write_atomically<E: Into<TrainerError>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), TrainerError> {
    let temporary = temporary_path(path);
    let result = write(&temporary)
        .map_err(Into::into)
        .and_then(|()| publish(&temporary, path).map_err(|source| TrainerError::write(path, source)));
    if result.is_err() {
        // The first error is the one to tell; there may be nothing to remove.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// [`write_atomically`] for contents that are already in memory.
///
/// # Errors
/// [`TrainerError::Write`] naming `path`.
pub fn write_bytes_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainerError> {
    write_atomically(path, |temporary| fs::write(temporary, bytes).map_err(|source| TrainerError::write(path, source)))
}

/// Makes sure that a file can be written to `path` later, after what may take hours.
///
/// # Errors
/// [`TrainerError::Write`] naming `path`: its folder is not there or cannot be written to, or a folder stands in its place.
pub(crate) fn check_writable(path: &Path) -> Result<(), TrainerError> {
    if path.is_dir() {
        return Err(TrainerError::write(path, io::ErrorKind::IsADirectory.into()));
    }
    let temporary = temporary_path(path);
    let created = File::create(&temporary).and_then(|_| fs::remove_file(&temporary));
    created.map_err(|source| TrainerError::write(path, source))
}

/// Creates a folder and its parents.
///
/// # Errors
/// [`TrainerError::Write`] naming the folder.
pub(crate) fn create_folder(path: &Path) -> Result<(), TrainerError> {
    fs::create_dir_all(path).map_err(|source| TrainerError::write(path, source))
}

/// Removes the temporary files of processes that were killed while writing to `folder`.
///
/// # Errors
/// [`TrainerError::Write`] naming what could not be listed or removed. A missing folder is fine.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<(), TrainerError> {
    for path in list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1) {
            fs::remove_file(&path).map_err(|source| TrainerError::write(&path, source))?;
        }
    }
    Ok(())
}

/// The paths in a folder, sorted by name; none if the folder does not exist.
///
/// # Errors
/// [`TrainerError::Read`] naming the folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainerError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TrainerError::read(folder, source)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TrainerError::read(folder, source))?;
    paths.sort();
    Ok(paths)
}

fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{}{name}-{}{}", TEMPORARY.0, std::process::id(), TEMPORARY.1))
}

fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)?;
    sync_folder(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// The rename itself is only on disk once the folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Windows cannot open a folder as a file; its file system journals renames.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_bytes_atomically(&path, b"old").unwrap();
        let result = write_atomically(&path, |temporary| {
            fs::write(temporary, b"half of the n").unwrap();
            Err(TrainerError::write(&path, io::Error::from(io::ErrorKind::StorageFull)))
        });
        assert!(result.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(list(folder.path()).unwrap(), [path]);
    }

    #[test]
    fn leftovers_of_a_killed_process_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("state");
        fs::write(&kept, b"good").unwrap();
        fs::write(folder.path().join(".state-4711.tmp"), b"half").unwrap();
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(list(folder.path()).unwrap(), [kept]);
        remove_leftovers(&folder.path().join("missing")).unwrap();
    }
}
