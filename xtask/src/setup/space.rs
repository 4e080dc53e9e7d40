//! Is there enough room on the disk?

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{component::Component, error::SetupError};

/// Above what the components themselves take: file system overhead, pip's own files.
const MARGIN_BYTES: u64 = 100_000_000;

/// Refuses to start what would fill the disk that holds `folder` (which need not exist yet).
pub(crate) fn check(folder: &Path, components: &[&Component]) -> Result<(), SetupError> {
    let needed = needed(components);
    let free = free(folder).map_err(SetupError::io("ask for the free space", folder))?;
    if free >= needed { Ok(()) } else { Err(SetupError::TooLittleSpace { folder: folder.to_owned(), needed, free }) }
}

/// The most that is on the disk at once: what is installed so far, and a download beside what it unpacks to.
fn needed(components: &[&Component]) -> u64 {
    let (mut installed, mut most) = (0, 0);
    for component in components {
        installed += component.installed_bytes;
        most = most.max(installed + component.download_bytes);
    }
    most + MARGIN_BYTES
}

fn free(folder: &Path) -> io::Result<u64> {
    let mut existing: PathBuf = folder.to_owned();
    while !existing.exists() && existing.pop() {}
    let disk = rustix::fs::statvfs(&existing)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::component::{CUDA_RUNTIME, LIBTORCH, OPENMOJI},
        *,
    };

    #[test]
    fn machine_without_a_gpu_needs_about_two_gigabytes() {
        let needed = needed(&[&LIBTORCH, &CUDA_RUNTIME, &OPENMOJI]);
        assert!((1_700_000_000..2_000_000_000).contains(&needed), "{needed}");
    }

    #[test]
    fn later_small_downloads_count_beside_what_is_installed_by_then() {
        let huge = Component { installed_bytes: 10, download_bytes: 1, ..OPENMOJI };
        let tail = Component { installed_bytes: 5, download_bytes: 3, ..OPENMOJI };
        assert_eq!(needed(&[&huge, &tail]) - MARGIN_BYTES, 18);
        assert_eq!(needed(&[&tail, &huge]) - MARGIN_BYTES, 16);
    }

    #[test]
    fn free_space_is_that_of_the_nearest_existing_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(&folder.path().join("not/yet/there")).unwrap() > 0);
    }

    #[test]
    fn too_little_space_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let endless = Component { installed_bytes: u64::MAX / 4, ..OPENMOJI };
        assert!(check(folder.path(), &[&OPENMOJI]).is_ok());
        assert!(matches!(check(folder.path(), &[&endless]), Err(SetupError::TooLittleSpace { .. })));
    }
}
