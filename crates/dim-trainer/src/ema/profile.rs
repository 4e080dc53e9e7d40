//! How much each step of training counts in an average.

/// The profile `p(τ) = (gamma + 1) τ^gamma / t^(gamma + 1)` over the time `τ` from 0 to `t`: a step counts by how late it is in the whole run,
/// so the average forgets the beginning as the run grows.
///
/// Source: EDM2, section 3.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerProfile {
    gamma: f64,
}

impl PowerProfile {
    /// The relative width of the flattest profile, under which all steps count the same.
    pub fn max_sigma_rel() -> f64 {
        Self { gamma: 0.0 }.sigma_rel()
    }

    /// The profile whose standard deviation is `sigma_rel` times the length of the run; `None` unless that is above 0 and at most
    /// [`max_sigma_rel`](Self::max_sigma_rel).
    pub fn from_sigma_rel(sigma_rel: f64) -> Option<Self> {
        if !(sigma_rel > 0.0 && sigma_rel <= Self::max_sigma_rel()) {
            return None;
        }
        // The width falls with gamma and is below 1 / gamma; halving a bracket ends where f64 does.
        let [mut low, mut high] = [0.0, 1.0 / sigma_rel];
        loop {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                return Some(Self { gamma: middle });
            }
            if (Self { gamma: middle }).sigma_rel() > sigma_rel { low = middle } else { high = middle }
        }
    }

    /// The exponent.
    pub fn gamma(self) -> f64 {
        self.gamma
    }

    /// The standard deviation of the profile, in lengths of the run.
    pub fn sigma_rel(self) -> f64 {
        let gamma = self.gamma;
        (gamma + 1.0).sqrt() / ((gamma + 2.0) * (gamma + 3.0).sqrt())
    }

    /// The share that the newest weights have in the average after update `update` (from 1): `1 − (1 − 1/update)^(gamma + 1)`.
    ///
    /// The weights of update `k` then count by the profile's integral from `k − 1` to `k`, exactly; the first update forgets what was there
    /// before.
    pub fn share_of_newest(self, update: u64) -> f64 {
        -((self.gamma + 1.0) * (-1.0 / update as f64).ln_1p()).exp_m1()
    }

    /// The integral of the product of this profile at time `t` and `other` at time `u` (EDM2, appendix C).
    pub fn inner_product(self, t: f64, other: Self, u: f64) -> f64 {
        let (earlier, later, fading) = if t < u { (t, u, other.gamma) } else { (u, t, self.gamma) };
        (self.gamma + 1.0) * (other.gamma + 1.0) * (earlier / later).powf(fading)
            / ((self.gamma + other.gamma + 1.0) * later)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn profile(sigma_rel: f64) -> PowerProfile {
        PowerProfile::from_sigma_rel(sigma_rel).unwrap()
    }

    /// By the middle of many small intervals.
    fn integral(f: impl Fn(f64) -> f64, end: f64) -> f64 {
        let count = 20_000;
        let width = end / f64::from(count);
        (0..count).map(|i| f((f64::from(i) + 0.5) * width) * width).sum()
    }

    fn density(profile: PowerProfile, t: f64, tau: f64) -> f64 {
        if tau > t { 0.0 } else { (profile.gamma + 1.0) * (tau / t).powf(profile.gamma) / t }
    }

    #[test]
    fn exponents_are_those_of_the_paper() {
        assert!((profile(0.05).gamma() - 16.97).abs() < 5e-3);
        assert!((profile(0.10).gamma() - 6.94).abs() < 5e-3);
        assert!((profile(PowerProfile::max_sigma_rel()).gamma()).abs() < 1e-6);
        for outside in [0.0, -0.1, 0.289, f64::NAN] {
            assert_eq!(PowerProfile::from_sigma_rel(outside), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn width_is_the_standard_deviation_of_the_profile(sigma_rel in 0.01..0.28_f64) {
            let profile = profile(sigma_rel);
            prop_assert!((profile.sigma_rel() - sigma_rel).abs() < 1e-14);
            let moment = |power: i32| integral(|tau| tau.powi(power) * density(profile, 1.0, tau), 1.0);
            prop_assert!((moment(0) - 1.0).abs() < 1e-5);
            prop_assert!(((moment(2) - moment(1).powi(2)).sqrt() - sigma_rel).abs() < 1e-4);
        }

        #[test]
        fn updates_count_by_the_integral_of_the_profile(sigma_rel in 0.01..0.28_f64, updates in 1_u64..200) {
            let profile = profile(sigma_rel);
            let mut shares = Vec::new();
            for update in 1..=updates {
                let newest = profile.share_of_newest(update);
                shares.iter_mut().for_each(|share| *share *= 1.0 - newest);
                shares.push(newest);
            }
            let cumulated = |k: usize| (k as f64 / updates as f64).powf(profile.gamma + 1.0);
            for (k, share) in shares.iter().enumerate() {
                prop_assert!((share - (cumulated(k + 1) - cumulated(k))).abs() < 1e-13);
            }
        }

        #[test]
        fn inner_product_is_the_integral_of_the_product(
            one in 0.03..0.28_f64,
            other in 0.03..0.28_f64,
            t in 0.5..2.0_f64,
            u in 0.5..2.0_f64,
        ) {
            let (one, other) = (profile(one), profile(other));
            let expected = integral(|tau| density(one, t, tau) * density(other, u, tau), t.min(u));
            let found = one.inner_product(t, other, u);
            prop_assert!((found - expected).abs() < 1e-4 * expected.max(1e-3), "{found} {expected}");
            prop_assert_eq!(found, other.inner_product(u, one, t));
        }
    }
}
