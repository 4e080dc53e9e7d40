//! Laws of the random numbers.

use dim_diffusion::noise::{NoiseStream, SampleNoise, StepNoise};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::{distance, zeros};

fn normal(stream: NoiseStream, samples: &[u64], shape: &[i64]) -> Tensor {
    stream.normal(samples, shape, Device::Cpu).unwrap()
}

proptest! {
    #[test]
    fn noise_of_a_sample_is_independent_of_the_batch_split(
        seed: u64,
        first in 0..u64::MAX - 100,
        batch in 1usize..12,
        cut in 0usize..12,
        side in 1i64..6,
    ) {
        let stream = NoiseStream::new(seed, "a");
        let samples: Vec<u64> = (0..batch as u64).map(|i| first + i).collect();
        let whole = normal(stream, &samples, &[3, side, side]);
        let (left, right) = samples.split_at(cut.min(batch));
        let parts = [left, right].map(|part| normal(stream, part, &[3, side, side]));
        prop_assert_eq!(&whole, &Tensor::cat(&parts, 0));

        let backwards: Vec<u64> = samples.iter().rev().copied().collect();
        prop_assert_eq!(whole.flip([0]), normal(stream, &backwards, &[3, side, side]));
    }

    #[test]
    fn seeds_names_steps_and_samples_all_count(seed: u64, index: u64) {
        let stream = NoiseStream::new(seed, "a");
        let values = [
            normal(stream, &[index], &[4]),
            normal(NoiseStream::new(seed.wrapping_add(1), "a"), &[index], &[4]),
            normal(NoiseStream::new(seed, "b"), &[index], &[4]),
            normal(stream.at_step(1), &[index], &[4]),
            normal(stream, &[index.wrapping_add(1)], &[4]),
        ];
        for (i, a) in values.iter().enumerate() {
            for b in &values[..i] {
                prop_assert!(distance(a, b) > 1e-6);
            }
        }
    }

    #[test]
    fn uniform_numbers_lie_in_their_interval(seed: u64, index: u64) {
        let u = NoiseStream::new(seed, "u").uniform(index);
        prop_assert!((0.0..1.0).contains(&u));
    }
}

#[test]
fn the_stream_stays_the_same_between_releases() {
    // Otherwise no run could be resumed by a later build.
    let values = normal(NoiseStream::new(7, "training noise"), &[0, 5_000_000_000], &[2]);
    let expected = [1.6581435, 0.4150257, 1.0617409, 1.4745755];
    assert_eq!(Vec::<f32>::try_from(values.view(-1)).unwrap(), expected);
    assert_eq!(NoiseStream::new(7, "training time").uniform(3), 0.9335110156332257);
}

#[test]
fn noise_is_standard_normal_within_and_across_samples() {
    let count = 400_000f64;
    let stream = NoiseStream::new(1, "moments");
    let samples: Vec<u64> = (0..4000).collect();
    let x = normal(stream, &samples, &[100]).to_kind(Kind::Double);
    let moment = |power: i64| x.pow_tensor_scalar(power).mean(Kind::Double).double_value(&[]);
    // Each bound is five standard errors of that moment.
    for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let error = (moment(power) - expected).abs();
        assert!(error < 5.0 * (variance / count).sqrt(), "moment {power} is off by {error}");
    }
    let lagged = |a: Tensor, b: Tensor| (a * b).mean(Kind::Double).double_value(&[]).abs();
    assert!(lagged(x.slice(0, 0, -1, 1), x.slice(0, 1, None, 1)) < 5.0 / count.sqrt());
    assert!(lagged(x.slice(1, 0, -1, 1), x.slice(1, 1, None, 1)) < 5.0 / count.sqrt());
}

#[test]
fn steps_of_a_sampler_have_noise_of_their_own() {
    let noise = SampleNoise::new(NoiseStream::new(3, "sampler"), vec![10, 11]);
    let like = zeros(&[2, 5]).to_kind(Kind::Double);
    let first = noise.draw(0, &like).unwrap();
    assert_eq!(first.kind(), Kind::Double);
    assert_eq!(first, noise.draw(0, &like).unwrap());
    assert!(distance(&first, &noise.draw(1, &like).unwrap()) > 1e-3);
    let error = noise.draw(0, &zeros(&[3, 5])).unwrap_err().to_string();
    assert!(error.contains("[2, …]"), "{error}");
}

#[test]
fn negative_sizes_are_refused_and_empty_ones_are_empty() {
    let stream = NoiseStream::new(0, "a");
    assert!(stream.normal(&[0], &[-1], Device::Cpu).is_err());
    assert!(stream.normal(&[0], &[i64::MAX, 4], Device::Cpu).is_err());
    assert_eq!(normal(stream, &[], &[3]).size(), [0, 3]);
    assert_eq!(normal(stream, &[1, 2], &[0]).size(), [2, 0]);
}
