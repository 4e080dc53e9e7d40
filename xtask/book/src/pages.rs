//! The book's pages and pictures, with links that hold within it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::links::{destinations, file};

/// Where files that are no part of the book can be read.
pub(crate) const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The table of contents, from the root.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Files that are put beside the pages that link to them; all others are linked to in the repository.
const SHOWN_BY_BROWSERS: [&str; 6] = ["html", "jpg", "pdf", "png", "svg", "webp"];

/// Everything that the book is made of.
pub(crate) struct Pages {
    /// Path from the root, and text.
    texts: BTreeMap<PathBuf, String>,
    /// Where a file stands, and its path from the root.
    files: BTreeMap<PathBuf, PathBuf>,
}

impl Pages {
    /// The pages that the summary of the repository at `root` names, and the pictures that they show.
    ///
    /// # Errors
    /// A page that cannot be read, or a link to a file that is not there.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {}", path.display()))
        };
        let summary = read(Path::new(SUMMARY))?;
        let chapters: BTreeSet<PathBuf> = destinations(&summary)
            .iter()
            .filter_map(|found| file(&found.text))
            .map(|path| from_root(Path::new(SUMMARY), path))
            .collect::<anyhow::Result<_>>()?;

        let mut pages = Self { texts: BTreeMap::new(), files: BTreeMap::new() };
        for chapter in &chapters {
            let text = pages.relinked(root, chapter, &read(chapter)?, &chapters)?;
            pages.texts.insert(chapter.clone(), text);
        }
        // mdBook wants it beside the pages, so its links begin at the root.
        let summary = replaced(&summary, |path| Ok(Some(shown(&from_root(Path::new(SUMMARY), path)?))))?;
        pages.texts.insert("SUMMARY.md".into(), summary);
        Ok(pages)
    }

    /// How many pages a reader can turn.
    pub(crate) fn len(&self) -> usize {
        self.texts.len() - 1
    }

    /// Writes everything below `folder`, at the paths that it has in the repository.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let prepared = |path: &Path| -> anyhow::Result<PathBuf> {
            let path = folder.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            Ok(path)
        };
        for (path, text) in &self.texts {
            fs::write(prepared(path)?, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        for (path, source) in &self.files {
            fs::copy(source, prepared(path)?).with_context(|| format!("cannot copy {}", source.display()))?;
        }
        Ok(())
    }

    /// `text` of the page `page`, in which links to what is no part of the book lead to the repository.
    fn relinked(
        &mut self,
        root: &Path,
        page: &Path,
        text: &str,
        chapters: &BTreeSet<PathBuf>,
    ) -> anyhow::Result<String> {
        replaced(text, |destination| {
            let path = from_root(page, destination)?;
            let source = root.join(&path);
            ensure!(source.exists(), "{} links to {destination}, which is not there", page.display());
            if chapters.contains(&path) {
                // mdBook makes an index of it, but leaves links to it as they are.
                return Ok(destination.strip_suffix("README.md").map(|folder| format!("{folder}index.md")));
            }
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if SHOWN_BY_BROWSERS.contains(&extension) {
                self.files.insert(path, source);
                return Ok(None);
            }
            let kind = if source.is_dir() { "tree" } else { "blob" };
            Ok(Some(format!("{REPOSITORY}/{kind}/main/{}", shown(&path))))
        })
    }
}

/// `page` with what `other` makes of each path that it links to; `None` leaves it as it is.
fn replaced(page: &str, mut other: impl FnMut(&str) -> anyhow::Result<Option<String>>) -> anyhow::Result<String> {
    let mut text = String::with_capacity(page.len());
    let mut end = 0;
    for found in destinations(page) {
        let Some(path) = file(&found.text) else { continue };
        if let Some(path) = other(path)? {
            text.push_str(&page[end..found.range.start]);
            text.push_str(&path);
            end = found.range.start + file(&found.text).map_or(0, str::len);
        }
    }
    text.push_str(&page[end..]);
    Ok(text)
}

/// The path from the root that `destination` means in the page `page`.
fn from_root(page: &Path, destination: &str) -> anyhow::Result<PathBuf> {
    let mut path = PathBuf::new();
    let beside = page.parent().unwrap_or(Path::new(""));
    for component in beside.join(destination).components() {
        match component {
            Component::ParentDir => {
                ensure!(path.pop(), "{} links to {destination}, outside of the repository", page.display());
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

fn shown(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn links_hold_within_the_book_and_lead_out_of_it() {
        let root = repository(&[
            (SUMMARY, "# Summary\n\n[Begin](../README.md)\n\n- [A](a.md)\n"),
            ("README.md", "[a](docs/a.md#x) [code](src/a.rs) ![p](docs/p.png)\n"),
            ("docs/a.md", "<img src=\"p.png\"> [home](../README.md)\n"),
            ("docs/p.png", "pixels"),
            ("src/a.rs", ""),
        ]);
        let out = root.path().join("out");
        Pages::read(root.path()).unwrap().write(&out).unwrap();
        let text = |path: &str| fs::read_to_string(out.join(path)).unwrap();
        assert_eq!(text("SUMMARY.md"), "# Summary\n\n[Begin](README.md)\n\n- [A](docs/a.md)\n");
        assert_eq!(
            text("README.md"),
            format!("[a](docs/a.md#x) [code]({REPOSITORY}/blob/main/src/a.rs) ![p](docs/p.png)\n")
        );
        assert_eq!(text("docs/a.md"), "<img src=\"p.png\"> [home](../index.md)\n");
        assert_eq!(text("docs/p.png"), "pixels");
    }

    #[test]
    fn a_link_to_nothing_is_an_error_that_names_both_ends() {
        let root = repository(&[(SUMMARY, "- [A](a.md)\n"), ("docs/a.md", "[b](../gone.md)\n")]);
        let error = Pages::read(root.path()).err().unwrap().to_string();
        assert!(error.contains("docs/a.md") && error.contains("../gone.md"), "{error}");
    }
}
