//! Logarithmic axes.

use crate::format;

/// An axis from one value to another, laid along the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// An axis that shows all values, with a margin of such a factor at both ends; None without a finite value above 0.
    ///
    /// `start` and `end` are where the smallest and the largest value come to lie.
    pub(super) fn around(values: impl Iterator<Item = f64>, margin: f64, [start, end]: [f64; 2]) -> Option<Self> {
        let is_shown = |value: &f64| value.is_finite() && *value > 0.0;
        let (low, high) = values
            .filter(is_shown)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        (low <= high).then_some(Self { low: low / margin, high: high * margin, start, end })
    }

    /// Where a value lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.start + (self.end - self.start) * (value / self.low).ln() / (self.high / self.low).ln()
    }

    /// Round values on the axis: powers of ten, and what lies between them where those are few.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let on_axis = |steps: &[f64]| -> Vec<f64> {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let values = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
            values.filter(|value| (self.low..=self.high).contains(value)).collect()
        };
        let steps: [&[f64]; 3] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0]];
        let enough = steps.iter().map(|steps| on_axis(steps)).find(|ticks| ticks.len() >= 4);
        enough.unwrap_or_else(|| on_axis(&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]))
    }
}

/// A tick in few letters: `0.1`, `30`, `1,000`.
pub(super) fn label(value: f64) -> String {
    if value < 1.0 {
        // The shortest form; a product of a step and a power of ten may be a hair off.
        format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
    } else if value.fract().abs() > 1e-9 && value < 10.0 {
        format!("{value:.1}")
    } else {
        format::count(value.round() as u64)
    }
}

/// Which of the labels at these places can stand without touching: the last, and from it downward each with enough room.
pub(super) fn with_room(places: &[f64], room: f64) -> Vec<bool> {
    let mut free_below = f64::INFINITY;
    let mut kept = vec![false; places.len()];
    for (index, place) in places.iter().enumerate().rev() {
        if free_below - place >= room {
            kept[index] = true;
            free_below = *place;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_lie_inside_in_their_order(low in 1e-3..1e3, factor in 1.0..1e5) {
            let axis = Axis::around([low * factor, low].into_iter(), 1.2, [300.0, 20.0]).unwrap();
            let (bottom, top) = (axis.at(low), axis.at(low * factor));
            prop_assert!(20.0 < top && top <= bottom && bottom < 300.0, "{top} {bottom}");
        }

        #[test]
        fn every_axis_has_a_few_ticks(low in 1e-3..1e3, factor in 1.5..1e5) {
            let ticks = Axis::around([low, low * factor].into_iter(), 1.2, [0.0, 1.0]).unwrap().ticks();
            prop_assert!((2..=12).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(ticks.is_sorted());
        }
    }

    #[test]
    fn axis_needs_a_value() {
        assert!(Axis::around([f64::NAN, 0.0].into_iter(), 1.2, [0.0, 1.0]).is_none());
    }

    #[test]
    fn labels_are_short() {
        for (value, text) in [(0.001, "0.001"), (0.3, "0.3"), (1.0, "1"), (1.5, "1.5"), (30.0, "30"), (1e4, "10,000")] {
            assert_eq!(label(value), text);
        }
    }

    #[test]
    fn crowded_labels_give_way_to_the_largest() {
        assert_eq!(with_room(&[0.0, 20.0, 50.0, 90.0], 40.0), [true, false, true, true]);
        assert_eq!(with_room(&[], 40.0), [false; 0]);
    }
}
