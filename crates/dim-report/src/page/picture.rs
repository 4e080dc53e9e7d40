//! Pictures that are in the page itself.

use data_encoding::BASE64;
use maud::{Markup, html};

/// A PNG with what it shows.
pub(crate) fn png(bytes: &[u8], what: &str) -> Markup {
    html! { img loading="lazy" alt=(what) src=(format!("data:image/png;base64,{}", BASE64.encode(bytes))); }
}
