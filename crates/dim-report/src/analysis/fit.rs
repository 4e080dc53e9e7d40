//! How time grows with the length of the sequence.

use std::ops::RangeInclusive;

use super::{
    measured,
    statistics::{Bootstrap, quantile, slope},
};
use crate::record::{Mode, Point, Run};

/// Sizes that are fitted unless others are asked for: large enough that a launch's constant cost no longer counts.
pub const FIT_PX: RangeInclusive<u32> = 512..=4096;

/// The exponent of time against tokens: 1 is linear, 2 quadratic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The exponent.
    pub exponent: f64,
    /// Its standard error: the larger of what the points' distances from the line give (with three points or more), and what
    /// the spread of their samples gives (by bootstrap).
    ///
    /// The first says how far the growth is from a power law, the second how well it was measured; neither covers the other.
    pub standard_error: f64,
    /// Points fitted.
    pub points: usize,
    /// Their smallest image size.
    pub from_px: u32,
    /// Their largest image size.
    pub to_px: u32,
}

/// Fits log time of an image on log tokens, by least squares, over the throughput points of a model in a mode.
///
/// Points outside the bounds on the image size count only if fewer than two are inside. None if there are no two points with
/// different numbers of tokens.
pub fn fit(run: &Run, model: &str, mode: Mode, bounds: RangeInclusive<u32>) -> Option<Fit> {
    let mut points = measured(run, model, mode);
    let is_inside = |point: &&Point| bounds.contains(&point.image_px);
    if points.iter().filter(|point| is_inside(point)).count() >= 2 {
        points.retain(is_inside);
    }
    let line = |time: &mut dyn FnMut(&Point) -> f64| {
        let logs = points.iter().map(|point| ((point.tokens as f64).ln(), time(point).ln()));
        slope(&logs.collect::<Vec<_>>())
    };
    let (exponent, of_residuals) = line(&mut |point| point.ms_per_image().map_or(f64::NAN, |[median, ..]| median))?;
    let drawn = Bootstrap::distribution(|draw| line(&mut |point| draw.ms_per_image(point)).map_or(exponent, |it| it.0));
    let of_samples = (quantile(&drawn, 0.84) - quantile(&drawn, 0.16)) / 2.0;
    Some(Fit {
        exponent,
        standard_error: of_samples.max(of_residuals.unwrap_or(0.0)),
        points: points.len(),
        from_px: points.first()?.image_px,
        to_px: points.last()?.image_px,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::power_law;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))] // each draws samples anew hundreds of times

        #[test]
        fn exact_power_law_gives_its_exponent(exponent in 0.2..3.0, scale in 1e-4..1e2) {
            let run = power_law(&[("a", scale, exponent)], &[256, 512, 1024, 2048], 0.0);
            let fit = fit(&run, "a", Mode::Forward, FIT_PX).unwrap();
            prop_assert!((fit.exponent - exponent).abs() < 1e-9);
            prop_assert!(fit.standard_error < 1e-6);
            prop_assert_eq!((fit.points, fit.from_px, fit.to_px), (3, 512, 2048));
        }

        #[test]
        fn exponent_knows_no_unit(exponent in 0.2..3.0, factor in 1e-3..1e3) {
            let sizes = [512, 1024, 2048];
            let slow = power_law(&[("a", 1.0, exponent)], &sizes, 0.1);
            let fast = power_law(&[("a", factor, exponent)], &sizes, 0.1);
            let [slow, fast] = [slow, fast].map(|run| fit(&run, "a", Mode::Forward, FIT_PX).unwrap());
            prop_assert!((slow.exponent - fast.exponent).abs() < 1e-9);
            prop_assert!((slow.standard_error - fast.standard_error).abs() < 1e-9);
        }
    }

    #[test]
    fn too_few_sizes_inside_the_bounds_let_all_count() {
        let run = power_law(&[("a", 1.0, 1.0)], &[64, 128, 512], 0.0);
        assert_eq!(fit(&run, "a", Mode::Forward, FIT_PX).unwrap().points, 3);
        let run = power_law(&[("a", 1.0, 1.0)], &[512], 0.0);
        assert_eq!(fit(&run, "a", Mode::Forward, FIT_PX), None);
    }

    #[test]
    fn spread_of_samples_and_bend_of_the_line_both_make_it_less_sure() {
        let sizes = [512, 1024, 2048];
        let error = |run: &Run| fit(run, "a", Mode::Forward, FIT_PX).unwrap().standard_error;
        let sure = error(&power_law(&[("a", 1.0, 1.0)], &sizes, 0.001));
        assert!(error(&power_law(&[("a", 1.0, 1.0)], &sizes, 0.2)) > 10.0 * sure);
        let mut bent = power_law(&[("a", 1.0, 1.0)], &sizes, 0.001);
        bent.points[2].batch = 2;
        assert!(error(&bent) > 10.0 * sure);
    }
}
