//! Which libtorch the build takes, and whether it is the one that tch is written for.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// tch 0.24 is written for this libtorch; another one has another ABI.
pub(crate) const VERSION: &str = "2.11.0";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LibtorchError {
    #[error("there is no libtorch in {}: neither version.py nor build-version is there", .0.display())]
    Absent(PathBuf),
    #[error("libtorch in {} is {found}, not {VERSION}", folder.display())]
    OtherVersion { folder: PathBuf, found: String },
}

/// Checks the version that a libtorch folder (`torch` of the wheel, or the unpacked archive) claims.
pub(crate) fn check(folder: &Path) -> Result<(), LibtorchError> {
    let found = version(folder).ok_or_else(|| LibtorchError::Absent(folder.to_owned()))?;
    let release = found.split('+').next().unwrap_or_default();
    if release == VERSION { Ok(()) } else { Err(LibtorchError::OtherVersion { folder: folder.to_owned(), found }) }
}

/// The wheel says its version in `version.py`, the archive in `build-version`.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("version.py")) {
        let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        return Some(line.trim().trim_matches(['\'', '"']).to_owned());
    }
    let text = fs::read_to_string(folder.join("build-version")).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with_file(name: &str, text: &str) -> Result<(), LibtorchError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), text).unwrap();
        check(folder.path())
    }

    #[test]
    fn pinned_version_passes_in_both_packagings() {
        assert_eq!(with_file("version.py", "import x\n__version__ = '2.11.0+cu130'\ncuda = '13.0'\n"), Ok(()));
        assert_eq!(with_file("build-version", "2.11.0+cpu\n"), Ok(()));
        assert_eq!(with_file("build-version", "2.11.0"), Ok(()));
    }

    #[test]
    fn other_versions_are_named() {
        for (file, text) in [("version.py", "__version__ = \"2.11.01\""), ("build-version", "2.9.1+cpu")] {
            let Err(LibtorchError::OtherVersion { found, .. }) = with_file(file, text) else { panic!("{text}") };
            assert!(text.contains(&found));
        }
    }

    #[test]
    fn a_folder_without_libtorch_is_told_from_a_wrong_one() {
        assert!(matches!(with_file("README", ""), Err(LibtorchError::Absent(_))));
        assert!(matches!(check(Path::new("/no/such/folder")), Err(LibtorchError::Absent(_))));
    }
}
