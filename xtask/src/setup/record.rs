//! What pip wrote down about an installed distribution, and whether its files are still so.
//!
//! Every wheel leaves `NAME-VERSION.dist-info/RECORD`, a line per file: path, hash, size. Comparing sizes takes some
//! 30 ms for the 12,000 files of libtorch, and finds whatever was deleted, cut short or exchanged.

use std::{
    fs, io,
    path::{Component as PathPart, Path, PathBuf},
};

use super::component::Distribution;

/// How an installed distribution differs from the pinned one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("{0} is not there")]
    Absent(String),
    #[error("{name} is {found}, not {expected}")]
    Version { name: String, expected: String, found: String },
    #[error("{0} is gone")]
    FileGone(PathBuf),
    #[error("{path} has {found} bytes, not {expected}")]
    FileSize { path: PathBuf, expected: u64, found: u64 },
    #[error("cannot read {path}: {message}")]
    Unreadable { path: PathBuf, message: String },
}

/// Checks that exactly this version is installed in `site` and that all its files have their sizes.
pub(crate) fn verify(site: &Path, distribution: &Distribution) -> Result<(), Flaw> {
    let installed = info_folders(site, &distribution.name);
    let Some((version, folder)) = installed.iter().find(|(version, _)| *version == distribution.version) else {
        return Err(match installed.into_iter().next() {
            None => Flaw::Absent(distribution.name.clone()),
            Some((found, _)) => {
                Flaw::Version { name: distribution.name.clone(), expected: distribution.version.clone(), found }
            }
        });
    };
    if let Some((found, _)) = installed.iter().find(|(other, _)| other != version) {
        let (name, expected) = (distribution.name.clone(), distribution.version.clone());
        return Err(Flaw::Version { name, expected, found: format!("there in two versions, also {found}") });
    }
    for (path, expected) in entries(folder)? {
        let found = fs::metadata(site.join(&path)).map_err(|_| Flaw::FileGone(path.clone()))?.len();
        if let Some(expected) = expected
            && expected != found
        {
            return Err(Flaw::FileSize { path, expected, found });
        }
    }
    Ok(())
}

/// Removes every version of a distribution: the files that it recorded, then the record.
pub(crate) fn remove(site: &Path, name: &str) -> io::Result<()> {
    for (_, folder) in info_folders(site, name) {
        for (path, _) in entries(&folder).unwrap_or_default() {
            match fs::remove_file(site.join(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Versions of a distribution that left a record in `site`, with the record's folder.
fn info_folders(site: &Path, name: &str) -> Vec<(String, PathBuf)> {
    let prefix = format!("{}-", name.replace('-', "_"));
    let mut found: Vec<_> = fs::read_dir(site)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let file_name = entry.file_name().into_string().ok()?;
            let version = file_name.strip_prefix(&prefix)?.strip_suffix(".dist-info")?.to_owned();
            Some((version, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// The recorded files inside `site`, relative to it, with their sizes where recorded.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, Option<u64>)>, Flaw> {
    let path = folder.join("RECORD");
    let text = fs::read_to_string(&path)
        .map_err(|error| Flaw::Unreadable { path: path.clone(), message: error.to_string() })?;
    Ok(text.lines().filter_map(entry).collect())
}

/// One line, `path,hash,size`. Paths that lead out of `site` are console scripts, which set-up leaves out.
fn entry(line: &str) -> Option<(PathBuf, Option<u64>)> {
    let mut fields = line.rsplitn(3, ',');
    let (size, _hash, path) = (fields.next()?, fields.next()?, fields.next()?);
    let path = match path.strip_prefix('"').and_then(|path| path.strip_suffix('"')) {
        Some(quoted) => PathBuf::from(quoted.replace("\"\"", "\"")),
        None => PathBuf::from(path),
    };
    let inside = path.components().all(|part| matches!(part, PathPart::Normal(_)));
    inside.then(|| (path, size.parse().ok()))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Installs a made-up wheel with the given files, as pip would.
    pub(crate) fn install(site: &Path, name: &str, version: &str, files: &[(&str, &str)]) {
        let info = format!("{}-{version}.dist-info", name.replace('-', "_"));
        let mut record = format!("../../bin/{name},sha256=x,9\n{info}/RECORD,,\n");
        for (path, content) in files {
            fs::create_dir_all(site.join(path).parent().unwrap()).unwrap();
            fs::write(site.join(path), content).unwrap();
            record += &format!("{path},sha256=x,{}\n", content.len());
        }
        fs::create_dir_all(site.join(&info)).unwrap();
        fs::write(site.join(info).join("RECORD"), record).unwrap();
    }

    fn pinned(version: &str) -> Distribution {
        Distribution { name: "nvidia-thing".into(), version: version.into() }
    }

    #[test]
    fn whole_distribution_passes() {
        let site = tempfile::tempdir().unwrap();
        install(site.path(), "nvidia-thing", "1.2", &[("nvidia/a.so", "abc"), ("nvidia/b.h", "")]);
        assert_eq!(verify(site.path(), &pinned("1.2")), Ok(()));
    }

    #[test]
    fn each_flaw_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path();
        assert_eq!(verify(site, &pinned("1.2")), Err(Flaw::Absent("nvidia-thing".into())));

        install(site, "nvidia-thing", "1.1", &[("nvidia/a.so", "abc")]);
        assert_eq!(verify(site, &pinned("1.2")).unwrap_err().to_string(), "nvidia-thing is 1.1, not 1.2");
        install(site, "nvidia-thing", "1.2", &[("nvidia/a.so", "abc")]);
        assert!(matches!(verify(site, &pinned("1.2")), Err(Flaw::Version { .. })), "two versions side by side");
        fs::remove_dir_all(site.join("nvidia_thing-1.1.dist-info")).unwrap();

        fs::write(site.join("nvidia/a.so"), "ab").unwrap();
        let size = Flaw::FileSize { path: "nvidia/a.so".into(), expected: 3, found: 2 };
        assert_eq!(verify(site, &pinned("1.2")), Err(size));
        fs::remove_file(site.join("nvidia/a.so")).unwrap();
        assert_eq!(verify(site, &pinned("1.2")), Err(Flaw::FileGone("nvidia/a.so".into())));
        fs::remove_file(site.join("nvidia_thing-1.2.dist-info/RECORD")).unwrap();
        assert!(matches!(verify(site, &pinned("1.2")), Err(Flaw::Unreadable { .. })));
    }

    #[test]
    fn removal_leaves_other_distributions_in_the_shared_folder() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path();
        install(site, "nvidia-thing", "1.2", &[("nvidia/a.so", "abc")]);
        install(site, "nvidia-other", "1.2", &[("nvidia/b.so", "abc")]);
        remove(site, "nvidia-thing").unwrap();
        assert!(!site.join("nvidia/a.so").exists());
        let other = Distribution { name: "nvidia-other".into(), version: "1.2".into() };
        assert_eq!(verify(site, &other), Ok(()));
    }

    #[test]
    fn record_lines_are_read_as_pip_writes_them() {
        assert_eq!(entry("a/b.py,sha256=x,12"), Some(("a/b.py".into(), Some(12))));
        assert_eq!(entry("\"a,\"\"b\"\".py\",sha256=x,12"), Some(("a,\"b\".py".into(), Some(12))));
        assert_eq!(entry("a-1.dist-info/RECORD,,"), Some(("a-1.dist-info/RECORD".into(), None)));
        assert_eq!(entry("../../bin/tool,sha256=x,12"), None);
        assert_eq!(entry("/etc/passwd,sha256=x,12"), None);
        assert_eq!(entry(""), None);
    }
}
