//! What a plot compares, as switches that show and hide it.

use maud::{Markup, html};

use super::look::Look;

/// A line of the plots.
pub(crate) struct Entry<'a> {
    /// Its number, by which its lines are found.
    pub(crate) number: usize,
    pub(crate) look: Look,
    pub(crate) name: &'a str,
    /// Something to be known of it.
    pub(crate) detail: Option<String>,
}

/// The switches; `what` they are of, such as `models`.
pub(crate) fn legend(entries: &[Entry<'_>], what: &str) -> Markup {
    html! {
        div.legend role="group" aria-label=(format!("Show or hide {what} in all plots")) {
            @for Entry { number, look, name, detail } in entries {
                button.key type="button" aria-pressed="true" data-model=(number) {
                    (swatch(look)) span { (name) }
                    @if let Some(detail) = detail { small { (detail) } }
                }
            }
        }
    }
}

pub(crate) fn swatch(look: &Look) -> Markup {
    html! {
        svg.swatch viewBox="0 0 36 14" width="36" height="14" aria-hidden="true" {
            g class=(look.class()) {
                line.line x1="1" y1="7" x2="35" y2="7" stroke-dasharray=(look.dashes) {}
                path.marker d=(look.marker) transform="translate(18 7)" {}
            }
        }
    }
}
