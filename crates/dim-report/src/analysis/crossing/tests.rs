#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::fixture::{at_price, power_law};

const SIZES: [u32; 5] = [256, 512, 1024, 2048, 4096];

/// `a` linear, `b` quadratic in tokens, as fast at that many pixels.
fn linear_and_quadratic(crossing_px: f64, spread: f64) -> Run {
    // The fixture has (px / 16)² tokens.
    let tokens = (crossing_px / 16.0).powi(2);
    power_law(&[("a", tokens, 1.0), ("b", 1.0, 2.0)], &SIZES, spread)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))] // each draws samples anew hundreds of times

    #[test]
    fn two_power_laws_cross_where_they_are_equal(px in 257.0..4095.0, spread in 0.0..0.1) {
        let run = linear_and_quadratic(px, spread);
        let Crossing::At { image_px, stays } = crossing(&run, "a", "b", Mode::Forward).unwrap() else {
            panic!("no crossing at {px}");
        };
        prop_assert!((image_px.value / px - 1.0).abs() < 1e-6, "{image_px:?}, not {px}");
        prop_assert!(image_px.low <= image_px.value && image_px.value <= image_px.high);
        prop_assert!(stays);
    }

    #[test]
    fn crossing_outside_the_sizes_is_told_by_its_side(px in prop_oneof![10.0..250.0, 4200.0..1e5]) {
        let run = linear_and_quadratic(px, 0.01);
        let there = crossing(&run, "a", "b", Mode::Forward).unwrap();
        let back = crossing(&run, "b", "a", Mode::Forward).unwrap();
        if px < 256.0 {
            prop_assert!(matches!(there, Crossing::AlreadyAhead { smallest_px: 256, stays: true, .. }), "{there:?}");
            prop_assert!(matches!(back, Crossing::NeverAhead { largest_px: 4096, .. }), "{back:?}");
        } else {
            let Crossing::NeverAhead { largest_px: 4096, ratio } = there else { panic!("{there:?}") };
            prop_assert!((ratio / (4096.0 / px).powi(2) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn more_spread_makes_the_crossing_less_sure(px in 400.0..3000.0) {
        let width = |spread: f64| match crossing(&linear_and_quadratic(px, spread), "a", "b", Mode::Forward) {
            Some(Crossing::At { image_px, .. }) => image_px.high / image_px.low,
            other => panic!("{other:?}"),
        };
        prop_assert!(width(0.1) > width(0.01));
    }

    #[test]
    fn pairs_are_seen_from_the_one_that_starts_behind(px in 10.0..1e5) {
        let run = linear_and_quadratic(px, 0.0);
        for models in [["a", "b"], ["b", "a"]] {
            let found = overtakings(&run, &models.map(str::to_owned), Mode::Forward);
            prop_assert_eq!(found.len(), 1);
            prop_assert!(!matches!(found[0].crossing, Crossing::AlreadyAhead { .. }), "{:?}", found);
        }
    }
}

#[test]
fn lead_that_is_lost_again_is_no_lasting_one() {
    let mut run = power_law(&[("a", 1.0, 1.0), ("b", 1.0, 1.0)], &SIZES, 0.0);
    // Twice as slow, twice as fast, twice as slow: the lead begins midway between 256 and 512 px.
    at_price(&mut run, "a", &[2.0, 0.5, 2.0, 2.0, 2.0]);
    let Some(Crossing::At { image_px, stays: false }) = crossing(&run, "a", "b", Mode::Forward) else { panic!() };
    assert!((image_px.value - 256.0 * 2.0_f64.sqrt()).abs() < 1e-6, "{image_px:?}");
    at_price(&mut run, "a", &[0.25, 1.0, 1.0, 1.0, 1.0]);
    let already = crossing(&run, "a", "b", Mode::Forward);
    assert!(matches!(already, Some(Crossing::AlreadyAhead { stays: false, .. })), "{already:?}");
}

#[test]
fn equal_models_do_not_cross() {
    let run = power_law(&[("a", 1.0, 1.0), ("b", 1.0, 1.0)], &SIZES, 0.0);
    let same = crossing(&run, "a", "b", Mode::Forward);
    assert_eq!(same, Some(Crossing::NeverAhead { largest_px: 4096, ratio: 1.0 }));
}

#[test]
fn models_without_a_common_size_do_not_compare() {
    let mut run = power_law(&[("a", 1.0, 1.0), ("b", 1.0, 1.0)], &[256, 512], 0.0);
    run.points.retain(|point| (point.model == "a") == (point.image_px == 256));
    assert_eq!(crossing(&run, "a", "b", Mode::Forward), None);
    assert_eq!(crossing(&run, "a", "unknown", Mode::Forward), None);
    assert!(overtakings(&run, &["a", "b"].map(str::to_owned), Mode::Forward).is_empty());
}
