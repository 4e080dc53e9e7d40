//! Tables of the page. One that is wider than the page scrolls by itself.

use maud::{Markup, html};

use crate::table::Table;

/// A table whose cells are numbers.
pub(crate) fn of_numbers(table: &Table) -> Markup {
    draw(table, "numbers")
}

/// A table whose cells are parts of sentences.
pub(crate) fn of_words(table: &Table) -> Markup {
    draw(table, "words")
}

fn draw(table: &Table, class: &str) -> Markup {
    html! {
        // No caption: one that belongs to the table would be cut off where the table is.
        p.caption { (table.title) }
        (scrolling(&table.title, html! {
            table class=(class) {
                thead { tr { @for name in &table.header { th scope="col" { (unbroken(name)) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                @if column == 0 { th scope="row" { (unbroken(cell)) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }))
    }
}

/// Text whose words, such as `U-ViT-H/2`, are broken only where one is wider than its place.
pub(crate) fn unbroken(text: &str) -> Markup {
    html! {
        @for (index, word) in text.split(' ').enumerate() {
            @if index > 0 { " " }
            @if word.contains('-') { span.word { (word) } } @else { (word) }
        }
    }
}

/// A box that scrolls, also by keyboard.
pub(crate) fn scrolling(label: &str, inside: Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (inside) } }
}
