//! What must hold for statistics, distances and features, whatever the images.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use dim_eval::features::{EfficientNetLite0, FeatureExtractor};
use dim_eval::{EvalError, Gaussian, Perceptual, Statistics, frechet_distance};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

fn largest_difference(one: &Tensor, other: &Tensor) -> f64 {
    (one - other).abs().max().double_value(&[])
}

/// `count` rows of `dimension` features that are all different and far from 0.
fn waves(count: i64, dimension: i64, phase: f64, offset: f64) -> Tensor {
    ((Tensor::arange(count * dimension, DOUBLE) * 1.7 + phase).sin() + offset).view([count, dimension])
}

fn gaussian(mean: &[f64], covariance: &Tensor) -> Gaussian {
    Gaussian::new(Tensor::from_slice(mean), covariance.copy()).unwrap()
}

fn diagonal(variances: &[f64]) -> Tensor {
    Tensor::from_slice(variances).diag(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn statistics_do_not_depend_on_how_the_images_come(cuts in prop::collection::vec(0i64..60, 0..5), turned: bool) {
        // An offset of 1e6 takes twelve of the sixteen digits from anyone who subtracts squares of means.
        let x = waves(60, 4, 0.3, 1e6);
        let mut cuts = cuts;
        cuts.extend([0, 60]);
        cuts.sort_unstable();
        let mut parts: Vec<Statistics> = cuts
            .windows(2)
            .map(|pair| {
                let mut part = Statistics::new(4).unwrap();
                part.add(&x.narrow(0, pair[0], pair[1] - pair[0])).unwrap();
                part
            })
            .collect();
        if turned {
            parts.reverse();
        }
        let mut whole = Statistics::new(4).unwrap();
        parts.iter().for_each(|part| whole.merge(part).unwrap());
        prop_assert_eq!(whole.count(), 60);
        let gaussian = whole.gaussian().unwrap();
        let mean = x.mean_dim(&[0_i64][..], false, Kind::Double);
        let centred = &x - &mean;
        let covariance = centred.transpose(0, 1).matmul(&centred) / 59.0;
        prop_assert!(largest_difference(gaussian.mean(), &mean) < 1e-9);
        prop_assert!(largest_difference(gaussian.covariance(), &covariance) < 1e-9);
    }

    #[test]
    fn distance_of_independent_features_is_that_of_each(
        one in prop::collection::vec((-3.0f64..3.0, 0.0f64..4.0), 3), other in prop::collection::vec((-3.0f64..3.0, 0.0f64..4.0), 3),
    ) {
        let build = |set: &[(f64, f64)]| {
            let (means, deviations): (Vec<f64>, Vec<f64>) = set.iter().copied().unzip();
            gaussian(&means, &diagonal(&deviations.iter().map(|deviation| deviation * deviation).collect::<Vec<_>>()))
        };
        // Of two normal distributions on a line: (m₁ − m₂)² + (s₁ − s₂)².
        let expected: f64 = one.iter().zip(&other).map(|(a, b)| (a.0 - b.0).powi(2) + (a.1 - b.1).powi(2)).sum();
        let found = frechet_distance(&build(&one), &build(&other)).unwrap();
        prop_assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
    }

    #[test]
    fn distance_is_symmetric_and_zero_to_itself(phase in 0.0f64..10.0) {
        let set = |phase: f64| {
            let mut statistics = Statistics::new(5).unwrap();
            statistics.add(&waves(40, 5, phase, 0.0)).unwrap();
            statistics.gaussian().unwrap()
        };
        let (one, other) = (set(phase), set(phase + 1.0));
        let there = frechet_distance(&one, &other).unwrap();
        prop_assert!((there - frechet_distance(&other, &one).unwrap()).abs() < 1e-7 && there > -1e-7);
        prop_assert!(frechet_distance(&one, &one).unwrap().abs() < 1e-7);
    }
}

#[test]
fn a_set_that_does_not_vary_is_as_far_as_its_mean_and_the_spread_of_the_other() {
    let point = gaussian(&[1.0, 0.0], &diagonal(&[0.0, 0.0]));
    let other = gaussian(&[0.0, 2.0], &diagonal(&[3.0, 4.0]));
    assert_eq!(frechet_distance(&point, &other).unwrap(), 1.0 + 4.0 + 3.0 + 4.0);
    assert_eq!(frechet_distance(&point, &point).unwrap(), 0.0);
}

#[test]
fn too_few_images_are_told() {
    let mut statistics = Statistics::new(3).unwrap();
    assert!(matches!(statistics.gaussian(), Err(EvalError::TooFewImages { needed: 2, got: 0, .. })));
    statistics.add(&waves(1, 3, 0.0, 0.0)).unwrap();
    assert!(matches!(statistics.gaussian(), Err(EvalError::TooFewImages { needed: 2, got: 1, .. })));
    statistics.add(&waves(2, 3, 0.0, 0.0)).unwrap();
    assert!(statistics.gaussian().is_ok() && statistics.is_rank_deficient());
    statistics.add(&waves(1, 3, 0.0, 0.0)).unwrap();
    assert!(!statistics.is_rank_deficient());
}

#[test]
fn a_feature_that_is_no_number_is_named_and_not_taken_in() {
    let mut statistics = Statistics::new(3).unwrap();
    statistics.add(&waves(4, 3, 0.0, 0.0)).unwrap();
    for value in [f64::NAN, f64::INFINITY] {
        let bad = waves(4, 3, 0.0, 0.0);
        let _ = bad.get(2).get(1).fill_(value);
        let error = statistics.add(&bad).unwrap_err();
        assert!(matches!(error, EvalError::NotFinite { image: 6, feature: 1 }), "{error}");
    }
    assert_eq!(statistics.count(), 4);
}

#[test]
fn other_numbers_of_features_are_refused() {
    let mut statistics = Statistics::new(3).unwrap();
    let error = statistics.add(&waves(4, 2, 0.0, 0.0)).unwrap_err().to_string();
    assert!(error.contains("of 3 features") && error.contains("[4, 2]"), "{error}");
    assert!(statistics.merge(&Statistics::new(2).unwrap()).is_err());
    let (two, three) = (gaussian(&[0.0; 2], &diagonal(&[1.0; 2])), gaussian(&[0.0; 3], &diagonal(&[1.0; 3])));
    assert!(matches!(frechet_distance(&two, &three), Err(EvalError::Dimension { expected: 2, .. })));
    assert!(Gaussian::new(Tensor::zeros([2], DOUBLE), Tensor::zeros([2, 3], DOUBLE)).is_err());
    let infinite = gaussian(&[0.0], &diagonal(&[f64::INFINITY]));
    assert!(matches!(frechet_distance(&infinite, &infinite), Err(EvalError::Distance { .. })));
}

/// `[2, 3, side, side]` in [-1, 1].
fn images(side: i64, phase: f64) -> Tensor {
    let count = 2 * 3 * side * side;
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.37 + phase).sin().view([2, 3, side, side])
}

#[test]
fn images_of_another_size_or_number_of_channels_are_refused() {
    let Some(network) = common::efficientnet_lite0() else { return };
    assert_eq!(network.features(&images(224, 0.0)).unwrap().size(), [2, network.dimension() as i64]);
    let error = network.features(&images(64, 0.0)).unwrap_err().to_string();
    assert!(error.contains("[image, 3, 224, 224]") && error.contains("[2, 3, 64, 64]"), "{error}");
    assert!(network.features(&images(224, 0.0).narrow(1, 0, 1)).is_err());
    assert!(network.stages(&images(32, 0.0).narrow(1, 0, 2)).is_err());
}

#[test]
fn stages_halve_the_resolution_from_any_size() {
    let Some(network) = common::efficientnet_lite0() else { return };
    let sizes: Vec<Vec<i64>> = network.stages(&images(36, 0.0)).unwrap().iter().map(Tensor::size).collect();
    assert_eq!(sizes, [[2, 16, 18, 18], [2, 24, 9, 9], [2, 40, 5, 5], [2, 112, 3, 3], [2, 320, 2, 2]]);
}

#[test]
fn perceptual_distance_is_zero_to_itself_and_grows_with_the_difference() {
    let Some(network) = common::efficientnet_lite0() else { return };
    let perceptual = Perceptual::new(network);
    let image = images(32, 0.0);
    let noise = images(32, 2.0);
    let at = |share: f64| perceptual.distance(&(&image + &noise * share), &image).unwrap();
    assert_eq!(at(0.0).size(), [2]);
    assert_eq!(at(0.0).abs().max().double_value(&[]), 0.0);
    let distances: Vec<f64> =
        [0.01, 0.1, 0.5].iter().map(|&share| at(share).mean(Kind::Double).double_value(&[])).collect();
    assert!(distances[0] > 0.0 && distances.windows(2).all(|pair| pair[0] < pair[1]), "{distances:?}");
    assert!(perceptual.distance(&image, &images(33, 0.0)).is_err());
}

#[test]
fn gradient_of_the_perceptual_distance_is_that_of_finite_differences() {
    let Some(network) = common::efficientnet_lite0() else { return };
    let perceptual = Perceptual::new(network);
    let target = images(32, 0.0);
    let image = (images(32, 0.4) * 0.8).set_requires_grad(true);
    perceptual.distance(&image, &target).unwrap().sum(Kind::Float).backward();
    let gradient = image.grad();
    // Along the gradient itself, where the change is largest and rounding matters least.
    let norm = gradient.norm().double_value(&[]);
    let (direction, step) = (&gradient / norm, 0.02);
    let at = |sign: f64| {
        let moved = image.detach() + &direction * (sign * step);
        perceptual.distance(&moved, &target).unwrap().sum(Kind::Double).double_value(&[])
    };
    let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
    assert!((slope - norm).abs() < 0.02 * norm, "{slope} and {norm}");
}

#[test]
fn weights_of_another_network_are_refused_by_key() {
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../dim-model/tests/fixtures/legacy.pth");
    let error = EfficientNetLite0::load(fixture, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("_conv_stem.weight") && error.contains("first"), "{error}");
}
