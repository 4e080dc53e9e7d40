//! Where a page of Markdown links to.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag};

/// A link's or picture's destination, and where it stands in the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) text: String,
    pub(crate) range: Range<usize>,
}

/// Every destination in `page` that is written out in a link, a picture or a tag of HTML, in the order of the text.
pub(crate) fn destinations(page: &str) -> Vec<Destination> {
    let mut found = Vec::new();
    for (event, range) in Parser::new_ext(page, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                // The text of a link may hold its destination, too: the last one counts.
                found.extend(
                    page[range.clone()].rfind(&*dest_url).map(|at| destination(page, range.start + at, dest_url.len())),
                );
            }
            Event::Html(_) | Event::InlineHtml(_) => found.extend(attributes(page, range)),
            _ => {}
        }
    }
    // A picture within a link comes after it, but may stand before its destination.
    found.sort_by_key(|destination| destination.range.start);
    found
}

/// Every destination in a page of HTML.
pub(crate) fn of_html(page: &str) -> Vec<Destination> {
    attributes(page, 0..page.len())
}

fn destination(page: &str, start: usize, length: usize) -> Destination {
    let range = start..start + length;
    Destination { text: page[range.clone()].to_owned(), range }
}

/// `src="…"` and `href="…"` within `tags`, a piece of HTML.
fn attributes(page: &str, tags: Range<usize>) -> Vec<Destination> {
    let mut found = Vec::new();
    for name in ["src=\"", "href=\""] {
        for (at, _) in page[tags.clone()].match_indices(name) {
            let start = tags.start + at + name.len();
            found.extend(page[start..tags.end].find('"').map(|length| destination(page, start, length)));
        }
    }
    found
}

/// What `destination` says of a file: its path, without a place within it; `None` for one elsewhere, or within the page.
pub(crate) fn file(destination: &str) -> Option<&str> {
    let path = destination.split('#').next().filter(|path| !path.is_empty())?;
    let elsewhere = path.contains("://") || path.starts_with("mailto:") || path.starts_with("data:");
    (!elsewhere).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_pictures_and_tags_are_found() {
        let page = "[a](x.md), [x.md](x.md#there)\n\n![p](p.png) `[no](code.md)`\n\n\
                    | t |\n| - |\n| [c](cell.md) |\n\n<img src=\"images/p.jpg\" width=\"3\">\n\n[![b](badge.svg)](b.md)\n";
        let texts: Vec<_> = destinations(page).into_iter().map(|found| found.text).collect();
        assert_eq!(texts, ["x.md", "x.md#there", "p.png", "cell.md", "images/p.jpg", "badge.svg", "b.md"]);
        for found in destinations(page) {
            assert_eq!(page[found.range], found.text);
        }
    }

    #[test]
    fn only_files_of_the_repository_are_files() {
        assert_eq!(file("../a.md#part"), Some("../a.md"));
        for other in ["#part", "https://example.org/a.md", "mailto:a@example.org"] {
            assert_eq!(file(other), None, "{other}");
        }
    }
}
