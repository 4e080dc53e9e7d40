//! What stands in a plot: points, marks at the edge, and the places where lines cross.

use maud::{Markup, html};

use super::{
    axis::Axis,
    frame::{BOTTOM, LEFT, RIGHT, TOP},
    look::Look,
    raw,
};
use crate::{
    analysis::{Estimate, Overtaking},
    format,
    record::Point,
};

/// A coordinate in few letters: a tenth of a unit is less than can be seen.
pub(super) fn unit(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A measured point with its bar, as a link to its row. `y` has the value and the ends of the bar.
pub(super) fn value(figure: &str, number: usize, look: &Look, point: &Point, x: f64, y: [f64; 3]) -> Markup {
    let [y, low, high] = y.map(unit);
    let x = unit(x);
    html! {
        a.point href=(format!("#{}", raw::row_id(figure, number, point))) data-px=(point.image_px) {
            title { (format::point(point)) }
            @if low != high { path.bar d=(format!("M{x} {low}V{high}m-3 0h6M{x} {low}m-3 0h6")) {} }
            circle.reach cx=(x) cy=(y) r="10" {}
            path.marker d=(look.marker) transform=(format!("translate({x} {y})")) {}
        }
    }
}

/// A point that ran out of memory, at the top edge.
pub(super) fn out_of_memory(figure: &str, number: usize, point: &Point, x: f64) -> Markup {
    let (x, y) = (unit(x), unit(TOP + 8.0));
    html! {
        a.point.failed href=(format!("#{}", raw::row_id(figure, number, point))) data-px=(point.image_px) {
            title { (format::point(point)) }
            circle.reach cx=(x) cy=(y) r="6" {}
            path.cross d=(format!("M{x} {y}m-4-4l8 8m0-8l-8 8")) {}
        }
    }
}

/// A place where one line passes another, with its letter and the place of its label.
pub(super) struct Crossed<'a> {
    pub(super) overtaking: &'a Overtaking,
    pub(super) letter: char,
    image_px: Estimate,
    x: [f64; 3],
    /// Middle of the label, and its line of writing.
    label: [f64; 2],
    /// Where the mark begins and ends: at the label, so that it runs through no other.
    y: [f64; 2],
}

/// Distance of the labels' lines of writing, and width of a letter.
const LABEL: (f64, f64) = (15.0, 6.8);

/// Gives letters to crossings, from small images to large, and their labels places where they touch neither each other nor
/// another's mark nor, as times rise with the size, the lines.
///
/// Those of the left half stand at the top, left of their marks, the leftmost lowest; those of the right half at the bottom, right of
/// their marks, the rightmost highest.
pub(super) fn lettered<'a>(found: impl Iterator<Item = (&'a Overtaking, Estimate)>, axis: Axis) -> Vec<Crossed<'a>> {
    let mut found: Vec<_> = found.collect();
    found.sort_by(|(_, a), (_, b)| a.value.total_cmp(&b.value));
    let is_left = |px: f64| axis.at(px) < (LEFT + RIGHT) / 2.0;
    let lefts = found.iter().filter(|(_, image_px)| is_left(image_px.value)).count();
    let place = |(index, (overtaking, image_px)): (usize, (&'a Overtaking, Estimate))| {
        let letter = char::from(b'A' + (index % 26) as u8);
        let x = [image_px.value, image_px.low, image_px.high].map(|px| axis.at(px));
        let half = LABEL.1 * text(letter, image_px).len() as f64 / 2.0;
        let (beside, label_y, y) = if index < lefts {
            let label_y = TOP + 30.0 + LABEL.0 * (lefts - 1 - index) as f64;
            (-half - 4.0, label_y, [label_y - LABEL.0 / 2.0, BOTTOM])
        } else {
            let label_y = BOTTOM - 7.0 - LABEL.0 * (index - lefts) as f64;
            (half + 4.0, label_y, [TOP, label_y])
        };
        let middle = (x[0] + beside).clamp(LEFT + half + 3.0, RIGHT - half - 3.0);
        Crossed { overtaking, letter, image_px, x, label: [middle, label_y], y }
    };
    found.into_iter().enumerate().map(place).collect()
}

fn text(letter: char, image_px: Estimate) -> String {
    format!("{letter} {}", format::px(image_px.value))
}

impl Crossed<'_> {
    pub(super) fn draw(&self) -> Markup {
        let [x, low, high] = self.x;
        let [label_x, label_y] = self.label;
        let [top, bottom] = self.y;
        let Overtaking { behind, ahead, crossing } = self.overtaking;
        html! {
            g.crossing {
                title { (behind) " passes " (ahead) " " (format::crossing(crossing)) }
                // At least as wide as can be seen.
                rect.band x=(unit(low - 0.5)) width=(unit(high - low + 1.0)) y=(unit(top)) height=(unit(bottom - top)) {}
                line.at x1=(unit(x)) x2=(unit(x)) y1=(unit(top)) y2=(unit(bottom)) {}
                text x=(unit(label_x)) y=(unit(label_y)) text-anchor="middle" { (text(self.letter, self.image_px)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::Crossing;

    proptest! {
        #[test]
        fn labels_stay_inside_and_never_touch(sizes in prop::collection::vec(256.0..4096.0, 0..6)) {
            let overtaking = Overtaking {
                behind: "a".to_owned(),
                ahead: "b".to_owned(),
                crossing: Crossing::NeverAhead { largest_px: 1, ratio: 1.0 },
            };
            let axis = Axis::around([256.0, 4096.0].into_iter(), 1.2, [LEFT, RIGHT]).unwrap();
            let found = sizes.iter().map(|px| (&overtaking, Estimate { value: *px, low: *px, high: *px }));
            let crossed = lettered(found, axis);
            let ends = |crossed: &Crossed<'_>| {
                let half = LABEL.1 * text(crossed.letter, crossed.image_px).len() as f64 / 2.0;
                (crossed.label[0] - half, crossed.label[0] + half)
            };
            for (index, one) in crossed.iter().enumerate() {
                let (start, end) = ends(one);
                prop_assert!(LEFT <= start && end <= RIGHT && TOP < one.label[1] && one.label[1] < BOTTOM);
                let has_room = (one.label[0] - one.x[0]).abs() > (end - start) / 2.0;
                for other in crossed[..index].iter().chain(&crossed[index + 1..]) {
                    let (other_start, other_end) = ends(other);
                    let is_apart = end < other_start || other_end < start;
                    prop_assert!(is_apart || (one.label[1] - other.label[1]).abs() >= LABEL.0, "{sizes:?}");
                    let is_struck = (start..end).contains(&other.x[0]) && (other.y[0]..other.y[1]).contains(&(one.label[1] - 4.0));
                    prop_assert!(!has_room || !is_struck, "{sizes:?}");
                }
            }
        }
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([1.0, 1.04, 1.25, -0.5].map(unit), ["1", "1", "1.2", "-0.5"]);
    }
}
