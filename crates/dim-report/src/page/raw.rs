//! What a figure was drawn from, point by point.

use maud::{Markup, html};

use super::{figure::Quantity, look::Looks, table};
use crate::{
    format::{self, NOTHING},
    record::Point,
};

/// Place of a point's row in the page.
pub(super) fn row_id(figure: &str, model: usize, point: &Point) -> String {
    format!("{figure}-{model}-{}", point.image_px)
}

/// The table of raw points, closed until it is asked for.
pub(super) fn details(figure: &str, quantity: Quantity, points: &[&Point], looks: &Looks) -> Markup {
    let with_times = quantity == Quantity::Time;
    html! {
        details.raw id=(format!("{figure}-raw")) {
            summary { "raw data of this figure" }
            (table::scrolling("raw data", html! {
                table.numbers.points {
                    thead { tr {
                        @for name in ["model", "image px", "tokens", "batch", "outcome"] { th scope="col" { (name) } }
                        @if with_times {
                            @for name in ["ms per image", "10th percentile", "90th", "images/s", "every repeat, ms of the batch"] {
                                th scope="col" { (name) }
                            }
                        } @else { th scope="col" { "peak memory, bytes" } }
                    } }
                    tbody {
                        @for point in points { @if let Some((number, _)) = looks.get(&point.model) {
                            tr id=(row_id(figure, number, point)) data-model=(number) data-px=(point.image_px) {
                                th scope="row" { (point.model) }
                                td { (point.image_px) } td { (format::count(point.tokens)) } td { (point.batch) }
                                td.outcome {
                                    (point.outcome.name())
                                    @if let Some(note) = &point.note { ": " (note) }
                                }
                                @if with_times { (times(point)) } @else { td { (memory(point)) } }
                            }
                        } }
                    }
                }
            }))
            p.more { a href="#download" { "the whole run as lines of JSON" } }
        }
    }
}

fn times(point: &Point) -> Markup {
    let measured = point.measurement().zip(point.ms_per_image());
    html! {
        @if let Some((of, per_image)) = measured {
            @for ms in per_image { td { (digits(ms)) } }
            td { (digits(of.images_per_s)) }
            td.samples { (of.samples_ms.iter().map(|sample| digits(*sample)).collect::<Vec<_>>().join(" ")) }
        } @else {
            @for _ in 0..5 { td { (NOTHING) } }
        }
    }
}

fn memory(point: &Point) -> String {
    point.measurement().and_then(|of| of.peak_memory_bytes).map_or_else(|| NOTHING.to_owned(), format::count)
}

/// Six digits that count, without separators: more than any clock is good for, and a program can read them.
fn digits(value: f64) -> String {
    let decimals = (5 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_numbers_keep_six_digits() {
        for (value, text) in
            [(0.001_234_567_8, "0.00123457"), (1.5, "1.5"), (12_345.678_9, "12345.7"), (1e7, "10000000")]
        {
            assert_eq!(digits(value), text);
        }
    }
}
