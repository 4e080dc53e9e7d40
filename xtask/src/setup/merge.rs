//! Moves a finished installation from the folder where it was made into its place.

use std::{fs, io, path::Path};

/// Top-level folders that several wheels share; all others belong to one wheel and are replaced as a whole.
const SHARED: [&str; 1] = ["nvidia"];

/// Console scripts and caches of the installing Python, which nothing here uses.
const LEFT_OUT: [&str; 2] = ["bin", "__pycache__"];

/// Renames everything from `made` into `site`; both must be on one file system.
pub(crate) fn merge(made: &Path, site: &Path) -> io::Result<()> {
    fs::create_dir_all(site)?;
    for entry in fs::read_dir(made)? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let target = site.join(&name);
        if SHARED.iter().any(|shared| name == *shared) {
            merge_shared(&entry.path(), &target)?;
        } else {
            remove(&target)?;
            fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}

fn merge_shared(from: &Path, to: &Path) -> io::Result<()> {
    if !(from.is_dir() && to.is_dir()) {
        remove(to)?;
        return fs::rename(from, to);
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        merge_shared(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Removes a file, a link or a whole folder; that it is not there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn shared_folders_are_merged_and_others_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (made, site) = (folder.path().join("made"), folder.path().join("site"));
        write(&site, "nvidia/cu13/lib/old.so", "old");
        write(&site, "nvidia/cu13/lib/both.so", "old");
        write(&site, "torch/stale.h", "old");
        write(&site, "other/kept", "old");
        write(&made, "nvidia/cu13/lib/both.so", "new");
        write(&made, "nvidia/nccl/lib/new.so", "new");
        write(&made, "torch/lib/new.so", "new");
        write(&made, "bin/torchrun", "new");

        merge(&made, &site).unwrap();

        let read = |path: &str| fs::read_to_string(site.join(path)).ok();
        assert_eq!(read("nvidia/cu13/lib/old.so").as_deref(), Some("old"));
        assert_eq!(read("nvidia/cu13/lib/both.so").as_deref(), Some("new"));
        assert_eq!(read("nvidia/nccl/lib/new.so").as_deref(), Some("new"));
        assert_eq!(read("torch/lib/new.so").as_deref(), Some("new"));
        assert_eq!(read("other/kept").as_deref(), Some("old"));
        assert_eq!(read("torch/stale.h"), None);
        assert_eq!(read("bin/torchrun"), None);
    }

    #[test]
    fn removal_does_not_follow_links() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "precious/file", "kept");
        std::os::unix::fs::symlink(folder.path().join("precious"), folder.path().join("link")).unwrap();
        remove(&folder.path().join("link")).unwrap();
        remove(&folder.path().join("link")).unwrap();
        assert!(folder.path().join("precious/file").exists());
    }
}
