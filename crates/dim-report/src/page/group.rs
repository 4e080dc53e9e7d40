//! The section of a group: its plots, mode by mode.

use maud::{Markup, html};

use super::{
    figure::{self, Quantity},
    legend::{Entry, legend},
    look::Looks,
    table,
};
use crate::{
    format,
    record::{Group, Mode, Run},
    tables,
};

pub(super) fn section(run: &Run, group: &Group, index: usize, looks: &Looks) -> Markup {
    let has_point =
        |mode: &Mode| run.points.iter().any(|point| point.mode == *mode && group.models.contains(&point.model));
    let entry = |name| {
        let (number, look) = looks.get(name)?;
        let point = run.points.iter().find(|point| point.model == name);
        let detail = point.map(|point| format!("{} M parameters", format::number(point.parameters as f64 / 1e6)));
        Some(Entry { number, look, name, detail })
    };
    let entries: Vec<Entry<'_>> = group.models.iter().map(String::as_str).filter_map(entry).collect();
    html! {
        section.group id=(format!("group-{index}")) {
            h2 { (group.name) }
            @if !group.note.is_empty() { p { (group.note) } }
            (legend(&entries, "models"))
            @for (number, mode) in run.modes().into_iter().filter(has_point).enumerate() {
                h3 { (group.name) ": " (mode.name()) }
                div.figures {
                    @for quantity in [Quantity::Time, Quantity::Memory] {
                        @let id = format!("g{index}-m{number}-{}", quantity.key());
                        (figure::figure(run, group, mode, quantity, &id, looks))
                    }
                }
                @if let Some(ratios) = tables::ratios_of_first(run, group, mode) { (table::of_numbers(&ratios)) }
            }
        }
    }
}
