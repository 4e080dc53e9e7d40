//! What mdBook made, looked through once more.

use std::{fs, path::Path};

use anyhow::{Context, ensure};

use crate::links::{file, of_html};

/// Every link and picture of every page below `folder` is there.
///
/// # Errors
/// One that is not, with the page that names it.
pub(crate) fn check(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            check(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            for found in of_html(&page) {
                let Some(target) = file(&found.text) else { continue };
                ensure!(folder.join(target).exists(), "{} links to {target}, which was not made", path.display());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_to_what_is_not_there_are_found_in_every_folder() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        let page = |text: &str| fs::write(root.path().join("a/page.html"), text).unwrap();
        fs::write(root.path().join("b.html"), "<a href=\"a/page.html#top\">a</a>").unwrap();
        page("<a href=\"../b.html\"></a> <a href=\"https://example.org/\"></a>");
        check(root.path()).unwrap();
        page("<img src=\"gone.png\">");
        let error = check(root.path()).unwrap_err().to_string();
        assert!(error.contains("page.html") && error.contains("gone.png"), "{error}");
    }
}
