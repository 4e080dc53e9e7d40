//! How many times as fast.

use super::{Estimate, common, statistics::Bootstrap};
use crate::record::{Mode, Run};

/// How many times as fast one model is as another, at one image size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Side of the images, in pixels.
    pub image_px: u32,
    /// Images a second of the first over those of the second.
    pub ratio: Estimate,
}

/// Images a second of `a` over those of `b`, at each image size at which both were measured, from small to large.
///
/// The interval is what the spread of both models' samples gives, by bootstrap.
pub fn ratios(run: &Run, a: &str, b: &str, mode: Mode) -> Vec<Ratio> {
    let ratio = |(a, b)| {
        let value = speed_ratio(a, b)?;
        let ratio = Bootstrap::estimate(value, |draw| draw.ms_per_image(b) / draw.ms_per_image(a));
        Some(Ratio { image_px: a.image_px, ratio })
    };
    common(run, a, b, mode).into_iter().filter_map(ratio).collect()
}

/// How many times as fast `a` is as `b`, both measured.
pub(super) fn speed_ratio(a: &crate::record::Point, b: &crate::record::Point) -> Option<f64> {
    let ([a, ..], [b, ..]) = (a.ms_per_image()?, b.ms_per_image()?);
    Some(b / a)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::power_law;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))] // each draws samples anew hundreds of times

        #[test]
        fn ratio_the_other_way_round_is_the_inverse(a in 0.1..10.0, b in 0.1..10.0, spread in 0.0..0.3) {
            let run = power_law(&[("a", a, 1.0), ("b", b, 1.5)], &[256, 512], spread);
            let (there, back) = (ratios(&run, "a", "b", Mode::Forward), ratios(&run, "b", "a", Mode::Forward));
            prop_assert_eq!(there.len(), 2);
            for (there, back) in there.iter().zip(&back) {
                prop_assert!((there.ratio.value * back.ratio.value - 1.0).abs() < 1e-9);
                prop_assert!(there.ratio.low <= there.ratio.value && there.ratio.value <= there.ratio.high);
            }
        }
    }

    #[test]
    fn sizes_that_one_of_them_lacks_have_no_ratio() {
        let mut run = power_law(&[("a", 1.0, 1.0), ("b", 1.0, 2.0)], &[256, 512], 0.0);
        run.points.retain(|point| (point.model.as_str(), point.image_px) != ("b", 256));
        let sizes: Vec<_> = ratios(&run, "a", "b", Mode::Forward).iter().map(|ratio| ratio.image_px).collect();
        assert_eq!(sizes, [512]);
    }
}
