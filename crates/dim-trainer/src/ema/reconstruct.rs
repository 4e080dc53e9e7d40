//! Any average, from those that were stored: EDM2, section 3.2 and appendix C.

use tch::{Kind, Tensor};

use super::PowerProfile;
use crate::error::TrainerError;

/// An average that was stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    /// Its profile.
    pub profile: PowerProfile,
    /// Weights in it: the time at which it was stored.
    pub updates: u64,
}

/// How to make an average of stored ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// The factor of each stored average.
    pub factors: Vec<f64>,
    /// How far the profile made of theirs is from the one asked for, in the root of the mean square, in units of the latter.
    pub error: f64,
}

/// Eigenvalues of the normalised profiles' products below this share of the largest are left out: they would be met by factors so large and
/// so different in sign that the roundings of stored f32 weights (6e-8) would show.
const SMALLEST_EIGENVALUE: f64 = 1e-9;

/// The factors, of sum 1, with which the profiles of `stored` come nearest, in least squares, to `profile` after `updates` updates.
/// Everything is in f64, on the CPU.
///
/// Least squares alone leave a sum that is not quite 1. Weights are far larger than their changes late in a run, so a sum off by a thousandth would
/// do more harm than the wrong width; held to 1, it gives weights that stay as they are.
///
/// # Errors
/// [`TrainerError::Libtorch`].
pub fn combination(stored: &[Stored], profile: PowerProfile, updates: u64) -> Result<Combination, TrainerError> {
    let wanted = Stored { profile, updates };
    let product = |one: &Stored, other: &Stored| {
        one.profile.inner_product(one.updates as f64, other.profile, other.updates as f64)
    };
    // Profiles of length 1, so that what is small is small for all.
    let length = |one: &Stored| product(one, one).sqrt();
    let cosine = |one: &Stored, other: &Stored| product(one, other) / (length(one) * length(other));
    let count = stored.len() as i64;
    let products: Vec<f64> = stored.iter().flat_map(|one| stored.iter().map(|other| cosine(one, other))).collect();
    let products = Tensor::f_from_slice(&products)?.f_view([count, count])?;
    let right = Tensor::f_from_slice(&stored.iter().map(|one| cosine(one, &wanted)).collect::<Vec<_>>())?;

    let in_sum: Vec<f64> = stored.iter().map(|one| length(&wanted) / length(one)).collect();
    let in_sum = Tensor::f_from_slice(&in_sum)?;

    let inverse = products.f_linalg_pinv(SMALLEST_EIGENVALUE, true)?;
    let (free, towards_sum) = (inverse.f_mv(&right)?, inverse.f_mv(&in_sum)?);
    // The Lagrange multiplier of the sum.
    let multiplier = (1f64 - in_sum.f_dot(&free)?) / in_sum.f_dot(&towards_sum)?;
    let factors = free + towards_sum * multiplier;
    let met = factors.f_dot(&products.f_mv(&factors)?)?.f_double_value(&[])?;
    let along = factors.f_dot(&right)?.f_double_value(&[])?;
    let factors = Vec::<f64>::try_from(factors.f_to_kind(Kind::Double)?)?;
    let of_length = |(factor, one): (f64, &Stored)| factor * length(&wanted) / length(one);
    Ok(Combination {
        factors: factors.into_iter().zip(stored).map(of_length).collect(),
        error: (1.0 - 2.0 * along + met).max(0.0).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dim_diffusion::noise::NoiseStream;
    use tch::Device;

    use super::super::PowerAverages;
    use super::*;
    use crate::config::Ema;

    const UPDATES: u64 = 1024;
    const SNAPSHOT_EVERY: u64 = 32;
    const ELEMENTS: i64 = 256;

    /// Weights that wander, as under stochastic gradients, towards a goal.
    fn weights(step: u64, before: &Tensor) -> Tensor {
        let goal = Tensor::arange(ELEMENTS, (Kind::Float, Device::Cpu)).sin();
        let push = NoiseStream::new(7, "walk").at_step(step).normal(&[0], &[ELEMENTS], Device::Cpu).unwrap().view(-1);
        before + (goal - before) * 0.005 + push * 0.02
    }

    /// The averages of these widths: at every snapshot, and at the end.
    fn tracked(sigma_rel: &[f64]) -> (Vec<(u64, Vec<Tensor>)>, Vec<Tensor>) {
        let config =
            Ema { sigma_rel: sigma_rel.to_vec(), update_every_steps: 1, snapshot_every_images: SNAPSHOT_EVERY };
        let specs = [dim_torch::ParameterSpec::new("w", &[ELEMENTS])];
        let mut x = Tensor::zeros([ELEMENTS], (Kind::Float, Device::Cpu));
        let mut averages = PowerAverages::zeros(Some(&config), &x).unwrap();
        let now = |averages: &PowerAverages| -> Vec<Tensor> {
            averages.tensors(&specs).unwrap().into_iter().map(|(_, tensor)| tensor.copy()).collect()
        };
        let mut snapshots = Vec::new();
        for step in 1..=UPDATES {
            x = weights(step, &x);
            averages.update(&x, step).unwrap();
            if step % SNAPSHOT_EVERY == 0 {
                snapshots.push((step, now(&averages)));
            }
        }
        let end = now(&averages);
        (snapshots, end)
    }

    fn profile(sigma_rel: f64) -> PowerProfile {
        PowerProfile::from_sigma_rel(sigma_rel).unwrap()
    }

    #[test]
    fn reconstruction_is_the_average_that_was_tracked_directly() {
        let tracked_widths = [0.05, 0.10];
        let (snapshots, _) = tracked(&tracked_widths);
        let stored: Vec<Stored> = snapshots
            .iter()
            .flat_map(|(updates, _)| tracked_widths.map(|width| Stored { profile: profile(width), updates: *updates }))
            .collect();
        // The width, how near its profile is met, and how near the weights come to those of the average tracked directly, beside how far
        // apart the two stored averages are.
        let others =
            [(0.03, 2e-2, 5e-3), (0.07, 2e-3, 3e-4), (0.12, 2e-3, 3e-4), (0.15, 5e-3, 1e-3), (0.20, 1e-2, 5e-3)];
        let (_, direct) = tracked(&others.map(|(width, ..)| width));
        let last = &snapshots.last().unwrap().1;
        let apart = (&last[0] - &last[1]).norm().double_value(&[]);
        for ((width, of_profile, of_weights), direct) in others.into_iter().zip(direct) {
            let Combination { factors, error } = combination(&stored, profile(width), UPDATES).unwrap();
            let mut sum = Tensor::zeros([ELEMENTS], (Kind::Double, Device::Cpu));
            for (factor, average) in factors.iter().zip(snapshots.iter().flat_map(|(_, averages)| averages)) {
                sum += average.to_kind(Kind::Double) * *factor;
            }
            let off = (sum - direct).norm().double_value(&[]) / apart;
            assert!((factors.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            println!("{width}: profile to {error:.1e}, weights to {off:.1e}");
            assert!(error < of_profile && off < of_weights, "{width}: {error} {off}");
        }
    }

    #[test]
    fn what_is_stored_is_taken_as_it_is() {
        let stored = [(0.05, 64), (0.10, 64), (0.05, 128), (0.10, 128)]
            .map(|(width, updates)| Stored { profile: profile(width), updates });
        for (index, one) in stored.iter().enumerate() {
            let found = combination(&stored, one.profile, one.updates).unwrap();
            for (other, factor) in found.factors.iter().enumerate() {
                let expected = if other == index { 1.0 } else { 0.0 };
                assert!((factor - expected).abs() < 1e-6, "{found:?}");
            }
            assert!(found.error < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn profile_that_cannot_be_met_says_so() {
        let stored = [Stored { profile: profile(0.05), updates: 100 }];
        let found = combination(&stored, profile(0.25), 100).unwrap();
        assert!(found.error > 0.5, "{found:?}");
    }

    #[test]
    fn steps_between_updates_are_left_out() {
        let config = Ema { sigma_rel: vec![0.1], update_every_steps: 3, snapshot_every_images: 1 };
        let x = Tensor::zeros([64], (Kind::Float, Device::Cpu));
        let mut sparse = PowerAverages::zeros(Some(&config), &x).unwrap();
        let mut dense = PowerAverages::zeros(Some(&Ema { update_every_steps: 1, ..config }), &x).unwrap();
        let at = |step: u64| (Tensor::arange(64, (Kind::Float, Device::Cpu)) * step as f64).sin();
        for step in 1..=30 {
            sparse.update(&at(step), step).unwrap();
            if step % 3 == 0 {
                dense.update(&at(step), step / 3).unwrap();
            }
        }
        let specs = [dim_torch::ParameterSpec::new("w", &[64])];
        assert_eq!(sparse.updates(30), 10);
        assert_eq!(sparse.tensors(&specs).unwrap(), dense.tensors(&specs).unwrap());
    }
}
