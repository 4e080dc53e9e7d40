//! The page around what it shows: style and script, and nothing to load.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// One self-contained HTML page. It loads nothing and works from a file; without its script it only lacks the switches in the legends and the
/// tooltips.
pub(crate) fn shell(title: &str, header: Markup, main: Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Nothing to load: a browser need not even ask for an icon.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (title) } (header) }
                main { (main) }
                div #tip role="tooltip" hidden {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// What is to be known before any number.
pub(crate) fn caveat(text: &str) -> Markup {
    html! { p.caveat role="note" { strong { (text) } } }
}

/// Names and values, side by side.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Markup {
    html! { dl.machine { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// Links to the sections, by their places and names.
pub(crate) fn sections(places: &[(String, String)]) -> Markup {
    html! { nav aria-label="Sections" { @for (place, name) in places { a href=(format!("#{place}")) { (name) } } } }
}
