//! What the points say: how time grows, who passes whom and where, and how sure that is.
//!
//! Everything here is deterministic: what is drawn at random is drawn from a fixed seed.

mod crossing;
mod fit;
mod ratio;
pub(crate) mod statistics;

pub use crossing::{Crossing, Overtaking, crossing, overtakings};
pub use fit::{FIT_PX, Fit, fit};
pub use ratio::{Ratio, ratios};

use crate::record::{Mode, Point, Role, Run};

/// An estimate with the interval that holds it with two chances in three (from the 16th to the 84th percentile).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Measured points of two models at the same image sizes, from small to large, in the role of throughput.
fn common<'a>(run: &'a Run, a: &str, b: &str, mode: Mode) -> Vec<(&'a Point, &'a Point)> {
    let of_b = measured(run, b, mode);
    let pair = |a: &'a Point| Some((a, *of_b.iter().find(|b| b.image_px == a.image_px)?));
    measured(run, a, mode).into_iter().filter_map(pair).collect()
}

fn measured<'a>(run: &'a Run, model: &str, mode: Mode) -> Vec<&'a Point> {
    let mut points = run.series(model, mode, Role::Throughput);
    points.retain(|point| point.measurement().is_some());
    points
}
