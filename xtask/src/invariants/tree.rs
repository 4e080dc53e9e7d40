//! The text files of the repository, read once.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::Context;

/// Paths relative to the root, with `/`, and their text. Files that are not UTF-8 are left out.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// What git tracks, and what it would track if it were added now.
    pub(crate) fn tracked(root: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("git");
        command.arg("-C").arg(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let output = command.output().context("cannot start `git`")?;
        anyhow::ensure!(output.status.success(), "`git ls-files`: {}", String::from_utf8_lossy(&output.stderr).trim());
        let listing = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
        let paths = listing.split('\0').filter(|path| !path.is_empty());
        // A file that is tracked but deleted, or no text, has no text to check.
        let files = paths.filter_map(|path| Some((path.to_owned(), fs::read_to_string(root.join(path)).ok()?)));
        Ok(Self(files.collect()))
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self(files.map(|(path, text)| (path.to_owned(), text.to_owned())).into())
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}
