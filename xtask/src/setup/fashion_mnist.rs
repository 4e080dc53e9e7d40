//! Fashion-MNIST from Debian's package, unpacked beside the other data without being installed.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) const PACKAGE: &str = "dataset-fashion-mnist";

/// The four files, with their sizes once unpacked: a header and a byte per pixel or label.
const FILES: [(&str, u32); 4] = [
    ("train-images-idx3-ubyte.gz", 16 + 60_000 * 28 * 28),
    ("train-labels-idx1-ubyte.gz", 8 + 60_000),
    ("t10k-images-idx3-ubyte.gz", 16 + 10_000 * 28 * 28),
    ("t10k-labels-idx1-ubyte.gz", 8 + 10_000),
];

/// Where the files stand, relative to the root of the unpacked package.
const FOLDER_IN_PACKAGE: &str = "usr/share/datasets/fashion-mnist";

pub(crate) fn folder(deps: &Path) -> PathBuf {
    deps.join("fashion-mnist")
}

/// Checks that the files are there and whole: gzip keeps the unpacked size in its last four bytes.
pub(crate) fn verify(folder: &Path) -> Result<(), String> {
    for (name, expected) in FILES {
        let found = unpacked_size(&folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if found != expected {
            return Err(format!("{name} would unpack to {found} bytes, not {expected}"));
        }
    }
    Ok(())
}

fn unpacked_size(path: &Path) -> std::io::Result<u32> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-4))?;
    let mut size = [0; 4];
    file.read_exact(&mut size)?;
    Ok(u32::from_le_bytes(size))
}

/// Fetches the package into the working folder: needs apt, but no rights.
pub(crate) fn download(work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["download", PACKAGE]).current_dir(work);
    command
}

/// Unpacks the fetched package into `work/tree`.
pub(crate) fn unpack(work: &Path) -> Option<Command> {
    let package = fs::read_dir(work).ok()?.flatten().map(|entry| entry.path());
    let package = package.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"))?;
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(package).arg(work.join("tree"));
    Some(command)
}

pub(crate) fn unpacked(work: &Path) -> PathBuf {
    work.join("tree").join(FOLDER_IN_PACKAGE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(folder: &Path, name: &str, size: u32) {
        fs::write(folder.join(name), [b"\x1f\x8b".as_slice(), &size.to_le_bytes()].concat()).unwrap();
    }

    #[test]
    fn truncated_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in FILES {
            write(folder.path(), name, size);
        }
        assert_eq!(verify(folder.path()), Ok(()));
        write(folder.path(), "t10k-labels-idx1-ubyte.gz", 17);
        assert_eq!(verify(folder.path()), Err("t10k-labels-idx1-ubyte.gz would unpack to 17 bytes, not 10008".into()));
        fs::write(folder.path().join("train-labels-idx1-ubyte.gz"), "").unwrap();
        assert!(verify(folder.path()).unwrap_err().starts_with("train-labels-idx1-ubyte.gz: "));
        fs::remove_file(folder.path().join("train-images-idx3-ubyte.gz")).unwrap();
        assert!(verify(folder.path()).unwrap_err().starts_with("train-images-idx3-ubyte.gz: "));
    }
}
