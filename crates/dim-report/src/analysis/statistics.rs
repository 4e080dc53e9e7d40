//! Quantiles, least squares, and what a median could have been.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Estimate;
use crate::record::Point;

/// How often samples are drawn anew: enough for an interval's ends to be good to a twentieth of its width.
const REPLICATES: usize = 400;

/// The values in order. None of them may be NaN.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which such a share of the sorted values lies, interpolated between neighbours; NaN without values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * (position - position.floor()),
        _ => f64::NAN,
    }
}

/// Slope of the line nearest to the points by squared vertical distance; the standard error that the distances give it needs a
/// third point. None if there are no two different `x`.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<(f64, Option<f64>)> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let spread = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    if points.len() < 2 || spread <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    let squares = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum::<f64>();
    let error = (points.len() > 2).then(|| (squares / (n - 2.0) / spread).sqrt());
    Some((slope, error))
}

/// Draws anew from samples, always in the same way.
pub(super) struct Bootstrap(ChaCha8Rng);

impl Bootstrap {
    /// Evaluates `statistic` for many draws, and returns its values in order.
    pub(super) fn distribution(mut statistic: impl FnMut(&mut Self) -> f64) -> Vec<f64> {
        let mut bootstrap = Self(ChaCha8Rng::seed_from_u64(20_240_514));
        sorted(&(0..REPLICATES).map(|_| statistic(&mut bootstrap)).collect::<Vec<_>>())
    }

    /// `value`, with the interval that the draws give it. It holds the value even where their median lies to one side of it.
    pub(super) fn estimate(value: f64, statistic: impl FnMut(&mut Self) -> f64) -> Estimate {
        let distribution = Self::distribution(statistic);
        let [low, high] = [0.16, 0.84].map(|share| quantile(&distribution, share));
        Estimate { value, low: low.min(value), high: high.max(value) }
    }

    /// Time of one image in milliseconds: the median of as many samples as there are, drawn with replacement.
    pub(super) fn ms_per_image(&mut self, point: &Point) -> f64 {
        let samples = point.measurement().map_or(&[][..], |of| &of.samples_ms);
        let drawn: Vec<f64> = samples.iter().map(|_| samples[self.0.random_range(0..samples.len())]).collect();
        quantile(&sorted(&drawn), 0.5) / f64::from(point.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        let values = sorted(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&values, share)), [1.0, 2.5, 4.0]);
        assert_eq!(quantile(&[7.0], 0.9), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn slope_needs_two_places_and_its_error_a_third_point() {
        assert_eq!(slope(&[(1.0, 1.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(slope(&[(0.0, 1.0), (2.0, 5.0)]), Some((2.0, None)));
        // Residuals ±(1/6, 1/3, 1/6): their squares sum to 1/6 with one degree of freedom, over a spread of 2.
        let (fitted, error) = slope(&[(0.0, 0.0), (1.0, 1.0), (2.0, 1.0)]).unwrap_or_default();
        assert_eq!(fitted, 0.5);
        assert!((error.unwrap_or_default() - (1.0_f64 / 12.0).sqrt()).abs() < 1e-12);
    }
}
