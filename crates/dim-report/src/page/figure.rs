//! A figure: a plot, what is to be read from it, and the points it was drawn from.

use maud::{Markup, html};

use super::{look::Looks, plot::Plot, raw, table};
use crate::{
    analysis::{Overtaking, overtakings},
    format,
    record::{Group, Mode, Point, Role, Run},
};

/// What a figure shows of each point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    Time,
    Memory,
}

impl Quantity {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Time => "Time per image",
            Self::Memory => "Peak memory",
        }
    }

    /// The title of the axis.
    pub(super) fn axis(self) -> &'static str {
        match self {
            Self::Time => "ms per image",
            Self::Memory => "GiB, whole batch",
        }
    }

    /// The value with the ends of its bar.
    pub(super) fn value(self, point: &Point) -> Option<[f64; 3]> {
        match self {
            Self::Time => point.ms_per_image(),
            Self::Memory => point.measurement()?.peak_memory_bytes.map(|bytes| [format::to_gib(bytes); 3]),
        }
    }
}

/// Draws one quantity of a group in a mode; nothing if it was measured nowhere.
pub(super) fn figure(run: &Run, group: &Group, mode: Mode, quantity: Quantity, id: &str, looks: &Looks) -> Markup {
    let series = group.models.iter().map(|model| run.series(model, mode, Role::Throughput));
    let points: Vec<&Point> = series.flatten().collect();
    let found = if quantity == Quantity::Time { overtakings(run, &group.models, mode) } else { Vec::new() };
    let Some(plot) = Plot::new(id, quantity, &points, &found, looks) else { return html! {} };
    let title = format!("{}, {}: {}", quantity.title(), mode.name(), group.name);
    html! {
        figure id=(id) {
            (plot.draw(&title))
            figcaption {
                strong { (quantity.title()) } ", " (mode.name()) "."
                @if quantity == Quantity::Memory { " Of the largest sensible batch, which differs between points." }
                (crossings(&found, &plot))
            }
            (raw::details(id, quantity, &points, looks))
        }
    }
}

/// Who passes whom and where, each with the letter that marks the place in the plot, and how many pairs do not.
fn crossings(found: &[Overtaking], plot: &Plot<'_>) -> Markup {
    let mut lettered: Vec<_> = found.iter().filter_map(|one| Some((plot.letter(one)?, one))).collect();
    lettered.sort_by_key(|(letter, _)| *letter);
    let others = found.len() - lettered.len();
    html! {
        ul.crossings {
            @for (letter, Overtaking { behind, ahead, crossing }) in lettered {
                li {
                    b { (letter) } " " (table::unbroken(behind)) " passes " (table::unbroken(ahead)) " " (format::crossing(crossing))
                }
            }
            @if others > 0 {
                li {
                    (others) (if others == 1 { " pair keeps" } else { " pairs keep" })
                    (if others == 1 { " its" } else { " their" }) " order at every size that both reach (" a href="#short" { "in short" } ")"
                }
            }
        }
    }
}
