//! At which image size one model passes another.

use super::{Estimate, common, ratio::speed_ratio, statistics::Bootstrap};
use crate::record::{Mode, Point, Run};

/// Where one model makes more images a second than another, from small images to large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// It is behind at first and passes the other.
    At {
        /// Side of the images, in pixels, interpolated between two measured sizes. An end of the interval at the smallest or
        /// largest measured size may lie beyond it.
        image_px: Estimate,
        /// Whether it stays ahead at every larger size.
        stays: bool,
    },
    /// It is ahead at the smallest size already.
    AlreadyAhead {
        /// That size.
        smallest_px: u32,
        /// How many times as fast it is there.
        ratio: f64,
        /// Whether it stays ahead at every larger size.
        stays: bool,
    },
    /// It is behind at every size.
    NeverAhead {
        /// The largest size at which both were measured.
        largest_px: u32,
        /// How many times as fast it is there: 1 at most.
        ratio: f64,
    },
}

/// Where `a` passes `b` in images a second; None without an image size at which both were measured.
///
/// Between the two neighbouring sizes, log ratio against log pixels is taken for a straight line, which for two power laws it is.
/// The interval is what the spread of the samples gives, by bootstrap; it does not cover what happens between the sizes.
pub fn crossing(run: &Run, a: &str, b: &str, mode: Mode) -> Option<Crossing> {
    let pairs = common(run, a, b, mode);
    let logs: Vec<(f64, f64)> =
        pairs.iter().map(|(a, b)| Some((log_px(a), speed_ratio(a, b)?.ln()))).collect::<Option<_>>()?;
    let ((first, _), (last, _)) = (pairs.first()?, pairs.last()?);
    let is_ahead = |(_, log_ratio): &(f64, f64)| *log_ratio > 0.0;
    let ratio_at = |point: Option<&(f64, f64)>| point.map_or(f64::NAN, |(_, log_ratio)| log_ratio.exp());
    if logs.first().is_some_and(is_ahead) {
        let stays = logs.iter().all(is_ahead);
        return Some(Crossing::AlreadyAhead { smallest_px: first.image_px, ratio: ratio_at(logs.first()), stays });
    }
    let Some(value) = first_zero(&logs) else {
        return Some(Crossing::NeverAhead { largest_px: last.image_px, ratio: ratio_at(logs.last()) });
    };
    let (smallest, largest) = (log_px(first), log_px(last));
    let drawn = Bootstrap::estimate(value, |draw| {
        let ratio = |draw: &mut Bootstrap, (a, b): &(&Point, &Point)| draw.ms_per_image(b) / draw.ms_per_image(a);
        let logs: Vec<_> = pairs.iter().map(|pair| (log_px(pair.0), ratio(draw, pair).ln())).collect();
        if logs.first().is_some_and(is_ahead) { smallest } else { first_zero(&logs).unwrap_or(largest) }
    });
    let image_px = Estimate { value: value.exp(), low: drawn.low.exp(), high: drawn.high.exp() };
    Some(Crossing::At { image_px, stays: logs.iter().skip_while(|point| !is_ahead(point)).all(is_ahead) })
}

fn log_px(point: &Point) -> f64 {
    f64::from(point.image_px).ln()
}

/// Where the broken line through the points first rises above 0.
fn first_zero(points: &[(f64, f64)]) -> Option<f64> {
    let ((x_0, y_0), (x_1, y_1)) = points
        .windows(2)
        .map(|pair| (pair[0], pair[1]))
        .find(|((_, before), (_, after))| *before <= 0.0 && *after > 0.0)?;
    Some(x_0 + (x_1 - x_0) * -y_0 / (y_1 - y_0))
}

/// Where, if anywhere, the slower of two models passes the faster.
#[derive(Clone, Debug, PartialEq)]
pub struct Overtaking {
    /// The model that is behind at the smallest size.
    pub behind: String,
    /// The model that is ahead there.
    pub ahead: String,
    /// Whether and where the first passes the second.
    pub crossing: Crossing,
}

/// Every pair of these models that has a common measured size, seen from the one that starts behind.
pub fn overtakings(run: &Run, models: &[String], mode: Mode) -> Vec<Overtaking> {
    let pairs = models.iter().enumerate().flat_map(|(index, a)| models[index + 1..].iter().map(move |b| (a, b)));
    let overtaking = |(a, b): (&String, &String)| {
        let (behind, ahead, crossing) = match crossing(run, a, b, mode)? {
            Crossing::AlreadyAhead { .. } => (b, a, crossing(run, b, a, mode)?),
            found => (a, b, found),
        };
        Some(Overtaking { behind: behind.clone(), ahead: ahead.clone(), crossing })
    };
    pairs.filter_map(overtaking).collect()
}

#[cfg(test)]
mod tests;
