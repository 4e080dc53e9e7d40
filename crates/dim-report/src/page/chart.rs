//! A plot of numbers against a number, as SVG: curves of a run's log, metrics against guidance.

use maud::{Markup, html};

use super::{
    axis::{self, Axis},
    frame::{self, BOTTOM, Frame, HEIGHT, LEFT, RIGHT, TOP, Tick, WIDTH},
    look::Look,
    marks::unit,
};
use crate::format;

/// Most places of a line: a plot is some hundred pixels wide, and a log can have a line a step.
pub(crate) const PLACES: usize = 120;
/// From so many places on a line has no markers, but where the mouse is.
const CROWD: usize = 30;
/// Ratio of the largest value to the smallest from which a logarithmic axis shows more, where it may.
const WIDE: f64 = 8.0;
/// Room that a label of the horizontal axis takes.
const LABEL_ROOM: f64 = 40.0;

/// What the shade around a line is, to be said once beside the plots.
pub(crate) const SHADE: &str =
    "Where a line has a shade around it, it is a mean of neighbouring values, and the shade reaches over all of them.";

/// One line.
pub(crate) struct Series {
    /// The number by which a legend's switch finds it.
    pub(crate) number: usize,
    pub(crate) look: Look,
    pub(crate) name: String,
    /// Pairs of x and y, by x. Those that are not finite are left out.
    pub(crate) points: Vec<[f64; 2]>,
}

/// All that is shown.
pub(crate) struct Chart<'a> {
    /// Of the page's elements.
    pub(crate) id: String,
    /// What is against what.
    pub(crate) title: &'a str,
    pub(crate) x_name: &'a str,
    pub(crate) y_name: &'a str,
    /// Whether the vertical axis is logarithmic where values span much.
    pub(crate) may_be_logarithmic: bool,
    pub(crate) series: Vec<Series>,
    /// Places along x that are marked, with what happened there.
    pub(crate) events: Vec<(f64, String)>,
}

/// Some neighbouring points as one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    x: f64,
    mean: f64,
    low: f64,
    high: f64,
    count: usize,
}

impl Chart<'_> {
    /// The figure; nothing if there is no value to show.
    pub(crate) fn figure(&self) -> Markup {
        let lines: Vec<(&Series, Vec<Bucket>)> =
            self.series.iter().map(|series| (series, buckets(&series.points))).collect();
        let all = || lines.iter().flat_map(|(_, buckets)| buckets);
        let Some(x) = Axis::linear(all().map(|bucket| bucket.x), 0.01, [LEFT, RIGHT]) else { return html! {} };
        let values = || all().flat_map(|bucket| [bucket.low, bucket.high]);
        let lowest = values().fold(f64::INFINITY, f64::min);
        let is_logarithmic = self.may_be_logarithmic && lowest > 0.0 && values().fold(0.0, f64::max) > WIDE * lowest;
        let ends = [BOTTOM - 4.0, TOP + 6.0];
        let y = match is_logarithmic {
            true => Axis::around(values(), 1.05, ends),
            false => Axis::linear(values(), 0.02, ends),
        };
        let Some(y) = y else { return html! {} };
        let [title_id, desc_id] = ["title", "desc"].map(|part| format!("{}-{part}", self.id));
        html! {
            figure id=(self.id) {
                svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="group" aria-labelledby=(format!("{title_id} {desc_id}")) {
                    title id=(title_id) { (self.title) }
                    desc id=(desc_id) { (self.description()) }
                    (self.frame(&x, &y, is_logarithmic).draw())
                    @for (at, what) in &self.events {
                        g.crossing {
                            title { (what) }
                            line.at x1=(unit(x.at(*at))) x2=(unit(x.at(*at))) y1=(TOP) y2=(BOTTOM) {}
                        }
                    }
                    @for (series, buckets) in &lines { (line(series, buckets, &x, &y)) }
                    // Over the lines, so that the mouse finds every point.
                    @for (series, buckets) in &lines { (self.points(series, buckets, &x, &y)) }
                }
                figcaption { strong { (self.title) } }
            }
        }
    }

    fn frame(&self, x: &Axis, y: &Axis, is_logarithmic: bool) -> Frame<'_> {
        let ticks = x.ticks();
        let places: Vec<f64> = ticks.iter().map(|tick| x.at(*tick)).collect();
        let labelled = axis::with_room(&places, LABEL_ROOM);
        let x = ticks
            .iter()
            .zip(places)
            .zip(labelled)
            .map(|((tick, place), labelled)| Tick { place, label: labelled.then(|| axis::short(*tick)) });
        let y = y.ticks().into_iter().map(|tick| Tick { place: y.at(tick), label: Some(axis::short(tick)) });
        let note = is_logarithmic.then_some("logarithmic");
        Frame { x: x.collect(), y: y.collect(), x_name: self.x_name, y_name: self.y_name, note }
    }

    /// The plot for those who do not see it.
    fn description(&self) -> String {
        let of = |series: &Series| {
            let finite: Vec<[f64; 2]> = finite(&series.points).collect();
            let (Some(first), Some(last)) = (finite.first(), finite.last()) else {
                return format!("{}: no values.", series.name);
            };
            let text = |point: &[f64; 2]| format!("{} at {}", format::number(point[1]), axis::short(point[0]));
            match finite.len() {
                1 => format!("{}: {}.", series.name, text(first)),
                _ => format!("{}: from {} to {}.", series.name, text(first), text(last)),
            }
        };
        let series: Vec<String> = self.series.iter().map(of).collect();
        format!("{} against {}. {}", self.y_name, self.x_name, series.join(" "))
    }

    fn points(&self, series: &Series, buckets: &[Bucket], x: &Axis, y: &Axis) -> Markup {
        let crowded = buckets.len() > CROWD;
        html! {
            g class=(series.look.class()) data-model=(series.number) {
                @for bucket in buckets {
                    @let [at, value] = [x.at(bucket.x), y.at(bucket.mean)].map(unit);
                    g class=(if crowded { "point faint" } else { "point" }) {
                        title { (self.text(series, bucket)) }
                        circle.reach cx=(at) cy=(value) r="10" {}
                        path.marker d=(series.look.marker) transform=(format!("translate({at} {value})")) {}
                    }
                }
            }
        }
    }

    fn text(&self, series: &Series, bucket: &Bucket) -> String {
        let Bucket { x, mean, low, high, count } = *bucket;
        let x = if x.fract() == 0.0 && x >= 0.0 { format::count(x as u64) } else { format::number(x) };
        let spread = match count {
            1 => String::new(),
            _ => format!(", mean of {count} values from {} to {}", format::number(low), format::number(high)),
        };
        format!("{}: {} {}{spread}; {} {x}", series.name, self.y_name, format::number(mean), self.x_name)
    }
}

fn finite(points: &[[f64; 2]]) -> impl Iterator<Item = [f64; 2]> + '_ {
    points.iter().copied().filter(|point| point.iter().all(|value| value.is_finite()))
}

/// The points, or of more than there are places neighbouring ones as one; the first and the last stay by themselves, for they are what is
/// asked for first.
fn buckets(points: &[[f64; 2]]) -> Vec<Bucket> {
    let points: Vec<[f64; 2]> = finite(points).collect();
    let each = points.len().saturating_sub(2).div_ceil(PLACES - 2).max(1);
    let whole = |points: &[[f64; 2]]| {
        let (count, values) = (points.len() as f64, || points.iter().map(|point| point[1]));
        Bucket {
            x: points.iter().map(|point| point[0]).sum::<f64>() / count,
            mean: values().sum::<f64>() / count,
            low: values().fold(f64::INFINITY, f64::min),
            high: values().fold(f64::NEG_INFINITY, f64::max),
            count: points.len(),
        }
    };
    match &points[..] {
        [first, between @ .., last] => {
            let between = between.chunks(each).map(whole);
            [whole(&[*first])].into_iter().chain(between).chain([whole(&[*last])]).collect()
        }
        few => few.chunks(1).map(whole).collect(),
    }
}

/// The line, and how far the values that it is a mean of reach.
fn line(series: &Series, buckets: &[Bucket], x: &Axis, y: &Axis) -> Markup {
    let at = |bucket: &Bucket, value: f64| Some([x.at(bucket.x), y.at(value)]);
    let there = buckets.iter().map(|bucket| at(bucket, bucket.high));
    let back = buckets.iter().rev().map(|bucket| at(bucket, bucket.low));
    html! {
        g class=(series.look.class()) data-model=(series.number) {
            @if buckets.iter().any(|bucket| bucket.count > 1) {
                path.spread d=(frame::outline(there.chain(back)) + "Z") {}
            }
            path.line d=(frame::outline(buckets.iter().map(|bucket| at(bucket, bucket.mean)))) stroke-dasharray=(series.look.dashes) {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn chart(points: Vec<[f64; 2]>) -> Chart<'static> {
        let series = Series { number: 0, look: Look::numbered(0), name: "a <b>".to_owned(), points };
        Chart {
            id: "loss".to_owned(),
            title: "Loss",
            x_name: "images",
            y_name: "loss",
            may_be_logarithmic: true,
            series: vec![series],
            events: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn buckets_keep_ends_extremes_and_means(values in prop::collection::vec(-100.0..100.0f64, 1..1000)) {
            let points: Vec<[f64; 2]> = values.iter().enumerate().map(|(x, y)| [x as f64, *y]).collect();
            let found = buckets(&points);
            prop_assert!(found.len() <= PLACES && found.iter().map(|bucket| bucket.count).sum::<usize>() == values.len());
            let (first, last) = (found[0], found[found.len() - 1]);
            prop_assert_eq!(([first.x, first.mean], [last.x, last.mean]), (points[0], points[points.len() - 1]));
            let lowest = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
            prop_assert_eq!(lowest(&mut found.iter().map(|bucket| bucket.low)), lowest(&mut values.iter().copied()));
            let sum: f64 = found.iter().map(|bucket| bucket.mean * bucket.count as f64).sum();
            prop_assert!((sum - values.iter().sum::<f64>()).abs() < 1e-6);
            prop_assert!(found.windows(2).all(|pair| pair[0].x < pair[1].x));
        }
    }

    #[test]
    fn nothing_to_show_is_no_figure_and_numbers_that_are_none_are_left_out() {
        assert_eq!(chart(vec![[1.0, f64::NAN]]).figure().into_string(), "");
        let drawn = chart(vec![[1.0, 2.0], [2.0, f64::INFINITY], [3.0, 4.0]]).figure().into_string();
        assert_eq!(drawn.matches("class=\"point\"").count(), 2);
        assert!(drawn.contains("a &lt;b&gt;: loss 2.00; images 1") && !drawn.contains("<b>"), "{drawn}");
    }

    #[test]
    fn axis_is_logarithmic_where_values_span_much() {
        assert!(chart(vec![[0.0, 1.0], [1.0, 0.01]]).figure().into_string().contains("logarithmic"));
        assert!(!chart(vec![[0.0, 1.0], [1.0, 0.5]]).figure().into_string().contains("logarithmic"));
        assert!(!chart(vec![[0.0, 1.0], [1.0, 0.0]]).figure().into_string().contains("logarithmic"));
    }
}
