//! What every plot stands in: its frame, grid and labels.

use maud::{Markup, html};

use super::marks::unit;

/// The plot's own units; on the page it is as wide as there is room.
pub(super) const WIDTH: f64 = 440.0;
pub(super) const HEIGHT: f64 = 312.0;
pub(super) const LEFT: f64 = 54.0;
pub(super) const RIGHT: f64 = 428.0;
pub(super) const TOP: f64 = 32.0;
pub(super) const BOTTOM: f64 = 266.0;

/// A line of the grid; where there is room with its value.
pub(super) struct Tick {
    pub(super) place: f64,
    pub(super) label: Option<String>,
}

/// Grid and labels.
pub(super) struct Frame<'a> {
    pub(super) x: Vec<Tick>,
    pub(super) y: Vec<Tick>,
    /// Names of the axes.
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    /// What is to be known of the plot, at its upper right.
    pub(super) note: Option<&'a str>,
}

impl Frame<'_> {
    pub(super) fn draw(&self) -> Markup {
        html! {
            g.axes {
                @for Tick { place, label } in &self.y {
                    line.grid x1=(LEFT) x2=(RIGHT) y1=(unit(*place)) y2=(unit(*place)) {}
                    @if let Some(label) = label { text x=(LEFT - 6.0) y=(unit(place + 4.0)) text-anchor="end" { (label) } }
                }
                @for Tick { place, label } in &self.x {
                    line.grid x1=(unit(*place)) x2=(unit(*place)) y1=(TOP) y2=(BOTTOM + 4.0) {}
                    @if let Some(label) = label {
                        text x=(unit(*place)) y=(BOTTOM + 18.0) text-anchor="middle" { (label) }
                    }
                }
                rect.frame x=(LEFT) y=(TOP) width=(RIGHT - LEFT) height=(BOTTOM - TOP) {}
                text.name x="4" y=(TOP - 12.0) { (self.y_name) }
                text.name x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { (self.x_name) }
                @if let Some(note) = self.note { text.edge x=(RIGHT) y=(TOP - 12.0) text-anchor="end" { (note) } }
            }
        }
    }
}

/// The outline of a line through these places. One that is not known breaks it.
pub(super) fn outline(places: impl Iterator<Item = Option<[f64; 2]>>) -> String {
    let mut path = String::new();
    let mut is_open = false;
    for place in places {
        if let Some([x, y]) = place.map(|place| place.map(unit)) {
            path.push_str(&format!("{}{x} {y}", if is_open { 'L' } else { 'M' }));
        }
        is_open = place.is_some();
    }
    path
}
