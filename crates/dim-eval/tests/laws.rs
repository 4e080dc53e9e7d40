//! What must hold for statistics, distances and features, whatever the images.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use dim_eval::features::{Dinov2, EfficientNetLite, FeatureExtractor, Inception, LiteSize, Preprocessing};
use dim_eval::{
    EvalError, Gaussian, InceptionScore, Neighbours, Perceptual, Statistics, Subsets, frechet_distance,
    kernel_distance, kernel_distance_of_all, neighbours, radii,
};
use dim_model::weights::{self, Naming};
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
    let Some(network) = common::efficientnet_lite(LiteSize::Lite0) else { return };
    let pixels = |side| (images(side, 0.0) + 1.0) * 127.5;
    assert_eq!(
        network.see(&network.prepare(&pixels(224)).unwrap()).unwrap().features.size(),
        [2, network.dimension() as i64]
    );
    let error = network.prepare(&pixels(64)).unwrap_err().to_string();
    assert!(error.contains("[image, 3, 224, 224]") && error.contains("[2, 3, 64, 64]"), "{error}");
    assert!(network.prepare(&pixels(224).narrow(1, 0, 1)).is_err());
    assert!(network.stages(&images(32, 0.0).narrow(1, 0, 2)).is_err());
}

#[test]
fn stages_halve_the_resolution_from_any_size() {
    let Some(network) = common::efficientnet_lite(LiteSize::Lite0) else { return };
    let sizes: Vec<Vec<i64>> = network.stages(&images(36, 0.0)).unwrap().iter().map(Tensor::size).collect();
    assert_eq!(sizes, [[2, 16, 18, 18], [2, 24, 9, 9], [2, 40, 5, 5], [2, 112, 3, 3], [2, 320, 2, 2]]);
}

#[test]
fn perceptual_distance_is_zero_to_itself_and_grows_with_the_difference() {
    let Some(network) = common::efficientnet_lite(LiteSize::Lite0) else { return };
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
    let Some(network) = common::efficientnet_lite(LiteSize::Lite0) else { return };
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
    let error = EfficientNetLite::load(LiteSize::Lite0, &fixture, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("_conv_stem.weight") && error.contains("first"), "{error}");
    let error = Dinov2::load(fixture, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("the weights of dinov2 must be") && error.contains("first"), "{error}");
}

#[test]
fn statistics_of_parts_are_those_of_the_whole() {
    let x = waves(700, 40, 0.3, 3.0);
    let of = |x: &Tensor| {
        let mut statistics = Statistics::new(40).unwrap();
        x.split(64, 0).iter().for_each(|batch| statistics.add(batch).unwrap());
        statistics
    };
    let whole = of(&x).gaussian().unwrap();
    for parts in [2, 3, 7, 16] {
        let mut merged = Statistics::new(40).unwrap();
        x.split((700 + parts - 1) / parts, 0).iter().for_each(|part| merged.merge(&of(part)).unwrap());
        let merged = merged.gaussian().unwrap();
        assert!(largest_difference(merged.mean(), whole.mean()) < 1e-10);
        assert!(largest_difference(merged.covariance(), whole.covariance()) < 1e-10);
        assert!(frechet_distance(&merged, &whole).unwrap().abs() < 1e-10);
    }
    // Statistics that were stored go on.
    let mut resumed = Statistics::of(&of(&x.narrow(0, 0, 300)).gaussian().unwrap(), 300).unwrap();
    resumed.merge(&of(&x.narrow(0, 300, 400))).unwrap();
    assert!(largest_difference(resumed.gaussian().unwrap().covariance(), whole.covariance()) < 1e-10);
}

#[test]
fn images_that_all_look_the_same_are_known() {
    let mut statistics = Statistics::new(6).unwrap();
    let one = waves(1, 6, 0.4, 1.0);
    // The last digit of f32 differs from batch to batch.
    statistics.add(&one.expand([50, 6], false)).unwrap();
    statistics.add(&(one * (1.0 + 1e-7)).expand([50, 6], false)).unwrap();
    assert!(statistics.is_constant().unwrap());
    statistics.add(&waves(1, 6, 0.9, 1.0)).unwrap();
    assert!(!statistics.is_constant().unwrap());
}

/// Means and counts over the whole matrix of distances at once.
fn by_definition(real: &Tensor, generated: &Tensor, k: usize) -> Neighbours {
    let distances =
        |a: &Tensor, b: &Tensor| (a.unsqueeze(1) - b.unsqueeze(0)).square().sum_dim_intlist(2, false, Kind::Double);
    let radii = |set: &Tensor| distances(set, set).kthvalue(k as i64 + 1, 1, false).0;
    let between = distances(generated, real);
    let in_real = between.lt_tensor(&radii(real).unsqueeze(0));
    let in_generated = between.lt_tensor(&radii(generated).unsqueeze(1));
    let share = |hits: Tensor| hits.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    Neighbours {
        k,
        precision: share(in_real.any_dim(1, false)),
        recall: share(in_generated.any_dim(0, false)),
        density: in_real.to_kind(Kind::Double).sum(Kind::Double).double_value(&[])
            / (k as i64 * generated.size()[0]) as f64,
        coverage: share(in_real.any_dim(0, false)),
    }
}

#[test]
fn neighbours_in_blocks_are_those_of_the_whole_matrix() {
    // Three blocks of real images by two of generated ones, the last of each not full.
    common::single_thread();
    tch::manual_seed(3);
    let (real, generated) = (Tensor::randn([2060, 8], DOUBLE), Tensor::randn([1030, 8], DOUBLE) * 0.8 + 0.5);
    let found = neighbours(&real, &generated, &[3, 5], Device::Cpu).unwrap();
    for of in found {
        let expected = by_definition(&real, &generated, of.k);
        assert_eq!(of, expected);
        assert!(expected.precision > 0.05 && expected.precision < 1.0 && expected.recall > 0.05, "{expected:?}");
    }
    assert_eq!(neighbours(&real, &real, &[3], Device::Cpu).unwrap()[0].precision, 1.0);
}

#[test]
fn neighbours_and_kernels_refuse_what_has_no_answer() {
    let x = waves(5, 3, 0.0, 0.0);
    assert!(matches!(radii(&x, 5, Device::Cpu), Err(EvalError::TooFewImages { needed: 6, got: 5, .. })));
    assert!(radii(&x, 4, Device::Cpu).is_ok());
    assert!(matches!(neighbours(&x, &x, &[0], Device::Cpu), Err(EvalError::Argument { .. })));
    assert!(matches!(neighbours(&x, &waves(5, 2, 0.0, 0.0), &[1], Device::Cpu), Err(EvalError::Dimension { .. })));
    let bad = x.copy();
    let _ = bad.get(3).get(2).fill_(f64::NAN);
    for error in [
        neighbours(&x, &bad, &[1], Device::Cpu).err().unwrap(),
        kernel_distance_of_all(&x, &bad, Device::Cpu).err().unwrap(),
    ] {
        assert!(matches!(error, EvalError::NotFinite { image: 3, feature: 2 }), "{error}");
    }
    let subsets = |size| Subsets { count: 3, size, seed: 1 };
    let error = kernel_distance(&x, &x, subsets(6), Device::Cpu).err().unwrap();
    assert!(matches!(error, EvalError::TooFewImages { needed: 6, got: 5, .. }), "{error}");
    assert!(kernel_distance(&x, &x, subsets(1), Device::Cpu).is_err());
}

#[test]
fn kernel_distance_of_subsets_is_about_that_of_all_and_repeats() {
    common::single_thread();
    let (one, other) = (waves(1100, 4, 0.0, 0.0), waves(1050, 4, 0.5, 0.3));
    let all = kernel_distance_of_all(&one, &other, Device::Cpu).unwrap();
    let of = |size, seed| kernel_distance(&one, &other, Subsets { count: 10, size, seed }, Device::Cpu).unwrap();
    let part = of(200, 1);
    assert!((part.mean - all).abs() < part.std && part.std > 0.0, "{part:?} {all}");
    assert_eq!(part, of(200, 1));
    assert_ne!(part, of(200, 2));
    let whole = kernel_distance(&one, &one, Subsets { count: 2, size: 1100, seed: 1 }, Device::Cpu).unwrap();
    assert!((whole.mean - kernel_distance_of_all(&one, &one, Device::Cpu).unwrap()).abs() < 1e-9 && whole.std < 1e-9);
}

#[test]
fn inception_score_has_its_bounds_and_does_not_depend_on_batches() {
    let sure = Tensor::eye(4, DOUBLE).repeat([5, 1]) * 1e3;
    let of = |logits: &Tensor, parts: usize, batch: i64| {
        let mut score = InceptionScore::new(4, 20, parts).unwrap();
        let mut other = InceptionScore::new(4, 20, parts).unwrap();
        for (number, piece) in logits.split(batch, 0).iter().enumerate() {
            let which = if number % 2 == 0 { &mut score } else { &mut other };
            which.add(number as u64 * batch as u64, piece).unwrap();
        }
        score.merge(&other).unwrap();
        score.score().unwrap()
    };
    // Sure of each image, and every class as often: as many as there are classes. Always the same answer: 1.
    assert!((of(&sure, 1, 7).mean - 4.0).abs() < 1e-9);
    assert!((of(&(sure.narrow(0, 0, 1).repeat([20, 1])), 1, 3).mean - 1.0).abs() < 1e-9);
    let mixed = waves(20, 4, 0.2, 0.0) * 3.0;
    for parts in [1, 3] {
        let (one, other) = (of(&mixed, parts, 20), of(&mixed, parts, 3));
        assert!((one.mean - other.mean).abs() < 1e-10 && (one.std - other.std).abs() < 1e-10);
    }
    let mut score = InceptionScore::new(4, 20, 2).unwrap();
    score.add(0, &mixed.narrow(0, 0, 19)).unwrap();
    assert!(matches!(score.score(), Err(EvalError::TooFewImages { needed: 20, got: 19, .. })));
    assert!(score.add(19, &mixed.narrow(0, 0, 2)).is_err());
    assert!(InceptionScore::new(4, 20, 11).is_err());
}

#[test]
fn inception_takes_images_of_any_size_and_the_names_of_the_wrapper() {
    common::single_thread();
    let folder = tempfile::tempdir().unwrap();
    let parameters = Inception::procedural_parameters(7).unwrap();
    let number = |name: &str| {
        let (module, rest) = name.split_once('.').unwrap();
        let modules = [
            &["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"][..],
            &["Conv2d_3b_1x1", "Conv2d_4a_3x3"],
            &["Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"],
            &["Mixed_7a", "Mixed_7b", "Mixed_7c"],
        ];
        modules.iter().enumerate().find_map(|(block, modules)| {
            Some(format!("blocks.{block}.{}.{rest}", modules.iter().position(|name| *name == module)?))
        })
    };
    let of_wrapper = parameters.iter().filter_map(|(spec, tensor)| Some((number(&spec.name)?, tensor.detach())));
    let counts = std::iter::once(("blocks.0.0.bn.num_batches_tracked".to_owned(), Tensor::from(0_i64)));
    let path = folder.path().join("wrapper.safetensors");
    weights::save(&path, of_wrapper.chain(counts), Naming::Ours, &std::collections::BTreeMap::new()).unwrap();
    let own = Inception::procedural(7, Preprocessing::PytorchFid, Device::Cpu).unwrap();
    let loaded = Inception::load(&path, Preprocessing::PytorchFid, Device::Cpu).unwrap();
    let pixels = ((images(40, 0.3) + 1.0) * 127.5).narrow(0, 0, 1).narrow(3, 0, 31);
    let prepared = own.prepare(&pixels).unwrap();
    let (seen, same) = (own.see(&prepared).unwrap(), loaded.see(&prepared).unwrap());
    assert_eq!(seen.features.size(), [1, own.dimension() as i64]);
    assert_eq!(seen.spatial.as_ref().unwrap().size(), [1, own.spatial_dimension().unwrap() as i64]);
    assert_eq!(seen.logits.unwrap().size(), [1, own.classes().unwrap() as i64]);
    assert_eq!(largest_difference(&seen.features, &same.features), 0.0);
    // The wrapper has no classifier.
    assert!(same.logits.is_none() && loaded.classes().is_none());
    let error = loaded.logits(&same.features, false).err().unwrap().to_string();
    assert!(error.contains("fc.weight"), "{error}");
    assert!(own.prepare(&pixels.narrow(1, 0, 1)).is_err());
}
