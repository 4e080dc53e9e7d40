//! A plot on log scales, as SVG.

use maud::{Markup, html};

use super::{
    axis::{self, Axis},
    figure::Quantity,
    frame::{self, BOTTOM, Frame, HEIGHT, LEFT, RIGHT, TOP, Tick, WIDTH},
    look::Looks,
    marks::{self, Crossed},
};
use crate::{
    analysis::{Crossing, Overtaking},
    format,
    record::{Outcome, Point},
};

/// Room at the top edge for what ran out of memory.
const EDGE: f64 = 16.0;

/// All that a plot shows, in its own units.
pub(super) struct Plot<'a> {
    id: &'a str,
    quantity: Quantity,
    points: &'a [&'a Point],
    crossed: Vec<Crossed<'a>>,
    looks: &'a Looks,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl<'a> Plot<'a> {
    /// None if there is no value to show.
    pub(super) fn new(
        id: &'a str,
        quantity: Quantity,
        points: &'a [&'a Point],
        overtakings: &'a [Overtaking],
        looks: &'a Looks,
    ) -> Option<Self> {
        let sizes = points.iter().map(|point| f64::from(point.image_px));
        let values = points.iter().filter_map(|point| quantity.value(point)).flatten();
        let x = Axis::around(sizes, 1.2, [LEFT, RIGHT])?;
        let top = if points.iter().any(|point| point.outcome == Outcome::OutOfMemory) { TOP + EDGE } else { TOP };
        let y = Axis::around(values, 1.3, [BOTTOM, top])?;
        let at = |overtaking: &'a Overtaking| match overtaking.crossing {
            Crossing::At { image_px, .. } => Some((overtaking, image_px)),
            _ => None,
        };
        let crossed = marks::lettered(overtakings.iter().filter_map(at), x);
        Some(Self { id, quantity, points, crossed, looks, x, y })
    }

    /// The letter at an overtaking's place, if it has one.
    pub(super) fn letter(&self, overtaking: &Overtaking) -> Option<char> {
        self.crossed.iter().find(|crossed| crossed.overtaking == overtaking).map(|crossed| crossed.letter)
    }

    pub(super) fn draw(&self, title: &str) -> Markup {
        let [title_id, desc_id] = ["title", "desc"].map(|part| format!("{}-{part}", self.id));
        html! {
            svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="group" aria-labelledby=(format!("{title_id} {desc_id}")) {
                title id=(title_id) { (title) }
                desc id=(desc_id) { (self.description()) }
                (self.axes())
                @for crossed in &self.crossed { (crossed.draw()) }
                @for (model, points) in self.series() { (self.line(model, &points)) }
                // Over the lines, so that every point can be clicked.
                @for (model, points) in self.series() { (self.markers(model, &points)) }
            }
        }
    }

    fn description(&self) -> String {
        let series = self.series().into_iter().map(|(model, points)| {
            let values = points.iter().map(|point| match self.quantity.value(point) {
                Some([value, ..]) => format!("{} at {}", format::number(value), format::px(point.image_px.into())),
                None => format!("{} at {}", point.outcome.name(), format::px(point.image_px.into())),
            });
            format!("{model}: {}.", values.collect::<Vec<_>>().join(", "))
        });
        let series: Vec<_> = series.collect();
        format!("Against the image's side, both axes logarithmic; {}. {}", self.quantity.axis(), series.join(" "))
    }

    /// The points, model by model.
    fn series(&self) -> Vec<(&'a str, Vec<&'a Point>)> {
        let models = self.points.chunk_by(|a, b| a.model == b.model);
        models.filter_map(|points| Some((points.first()?.model.as_str(), points.to_vec()))).collect()
    }

    fn axes(&self) -> Markup {
        let mut sizes: Vec<u32> = self.points.iter().map(|point| point.image_px).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let places: Vec<f64> = sizes.iter().map(|size| self.x.at(f64::from(*size))).collect();
        let labelled = axis::with_room(&places, 42.0);
        let has_edge = self.points.iter().any(|point| point.outcome == Outcome::OutOfMemory);
        let x = sizes
            .iter()
            .zip(places)
            .zip(labelled)
            .map(|((size, place), labelled)| Tick { place, label: labelled.then(|| format::count((*size).into())) });
        let y = self.y.ticks().into_iter().map(|tick| Tick { place: self.y.at(tick), label: Some(axis::label(tick)) });
        let frame = Frame {
            x: x.collect(),
            y: y.collect(),
            x_name: "side of the image, pixels",
            y_name: self.quantity.axis(),
            note: has_edge.then_some("× at the edge: out of memory"),
        };
        frame.draw()
    }

    fn line(&self, model: &str, points: &[&Point]) -> Markup {
        let Some((number, look)) = self.looks.get(model) else { return html! {} };
        // A point without a value breaks the line: nothing is known there.
        let place = |point: &&Point| {
            let [value, ..] = self.quantity.value(point)?;
            Some([self.x.at(point.image_px.into()), self.y.at(value)])
        };
        let path = frame::outline(points.iter().map(place));
        html! {
            g class=(look.class()) data-model=(number) {
                path.line d=(path) stroke-dasharray=(look.dashes) {}
            }
        }
    }

    fn markers(&self, model: &str, points: &[&Point]) -> Markup {
        let Some((number, look)) = self.looks.get(model) else { return html! {} };
        html! {
            g class=(look.class()) data-model=(number) {
                @for point in points {
                    @let x = self.x.at(point.image_px.into());
                    @match self.quantity.value(point) {
                        Some(value) => (marks::value(self.id, number, &look, point, x, value.map(|value| self.y.at(value)))),
                        None if point.outcome == Outcome::OutOfMemory => (marks::out_of_memory(self.id, number, point, x + self.beside(model))),
                        None => {}
                    }
                }
            }
        }
    }

    /// How far beside its size a model's mark at the edge stands, so that those of several models do not hide each other.
    fn beside(&self, model: &str) -> f64 {
        let series = self.series();
        let place = series.iter().position(|(other, _)| *other == model).unwrap_or(0);
        let gaps = (series.len() - 1) as f64;
        // All within the margin that the axis has beyond its last size.
        (32.0 / gaps.max(1.0)).min(11.0) * (place as f64 - gaps / 2.0)
    }
}
