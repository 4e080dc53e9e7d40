//! Axes, logarithmic and linear.

use crate::format;

/// How values are laid along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Logarithmic,
    Linear,
}

/// An axis from one value to another, laid along the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// A logarithmic axis that shows all values, with a margin of such a factor at both ends; None without a finite value above 0.
    ///
    /// `start` and `end` are where the smallest and the largest value come to lie.
    pub(super) fn around(values: impl Iterator<Item = f64>, margin: f64, [start, end]: [f64; 2]) -> Option<Self> {
        let is_shown = |value: &f64| value.is_finite() && *value > 0.0;
        let (low, high) = values
            .filter(is_shown)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        (low <= high).then_some(Self { scale: Scale::Logarithmic, low: low / margin, high: high * margin, start, end })
    }

    /// A linear axis that shows all values, with such a share of their range as a margin at both ends; None without a finite value.
    pub(super) fn linear(values: impl Iterator<Item = f64>, margin: f64, [start, end]: [f64; 2]) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        // A single value needs room around it, too.
        let room = if low < high { margin * (high - low) } else { (0.1 * high.abs()).max(f64::MIN_POSITIVE.sqrt()) };
        Some(Self { scale: Scale::Linear, low: low - room, high: high + room, start, end })
    }

    /// Where a value lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
            Scale::Linear => (value - self.low) / (self.high - self.low),
        };
        self.start + (self.end - self.start) * share
    }

    /// Round values on the axis: of a logarithmic one powers of ten, and what lies between them where those are few.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.scale == Scale::Linear {
            return self.even_ticks();
        }
        let on_axis = |steps: &[f64]| -> Vec<f64> {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let values = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
            values.filter(|value| (self.low..=self.high).contains(value)).collect()
        };
        let steps: [&[f64]; 3] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0]];
        let enough = steps.iter().map(|steps| on_axis(steps)).find(|ticks| ticks.len() >= 4);
        enough.unwrap_or_else(|| on_axis(&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]))
    }

    /// Three to seven multiples of 1, 2, 2.5 or 5 times a power of ten.
    fn even_ticks(&self) -> Vec<f64> {
        let range = self.high - self.low;
        let decade = 10_f64.powf((range / 6.0).log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * decade);
        let step = steps.into_iter().find(|step| range / step < 6.0).unwrap_or(10.0 * decade);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|multiple| multiple as f64 * step).collect()
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

/// A tick of any size in very few letters: `2.5M`, `40k`, `0.25`, `1e-4`.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if size > 0.0 && size < 1e-3 {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let (scaled, unit) = match size {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.4}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
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

    proptest! {
        #[test]
        fn linear_axis_shows_every_value_and_has_a_few_even_ticks(low in -1e6..1e6, range in 1e-3..1e6) {
            let axis = Axis::linear([low, low + range].into_iter(), 0.05, [300.0, 20.0]).unwrap();
            let (bottom, top) = (axis.at(low), axis.at(low + range));
            prop_assert!(20.0 < top && top < bottom && bottom < 300.0, "{top} {bottom}");
            let ticks = axis.ticks();
            prop_assert!((3..=7).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(ticks.iter().all(|tick| (19.9..=300.1).contains(&axis.at(*tick))), "{ticks:?}");
        }
    }

    #[test]
    fn axis_needs_a_value_and_one_is_enough() {
        assert!(Axis::around([f64::NAN, 0.0].into_iter(), 1.2, [0.0, 1.0]).is_none());
        assert!(Axis::linear([f64::NAN].into_iter(), 0.1, [0.0, 1.0]).is_none());
        for value in [0.0, -3.0, 1e-5] {
            let axis = Axis::linear([value].into_iter(), 0.1, [0.0, 1.0]).unwrap();
            assert!((axis.at(value) - 0.5).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn ticks_of_any_size_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_15, "1.5e-4"),
            (1e-4, "1e-4"),
            (0.25, "0.25"),
            (-2.0, "-2"),
            (5000.0, "5000"),
            (40_000.0, "40k"),
            (2.5e6, "2.5M"),
            (3e9, "3G"),
        ] {
            assert_eq!(short(value), text);
        }
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
