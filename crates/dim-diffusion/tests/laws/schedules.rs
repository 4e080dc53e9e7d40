//! Laws of the schedules.

use dim_diffusion::{
    Prediction,
    schedule::{NoiseSchedule, RectifiedFlow, ScaledLinear, VpSde},
};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::distance;

/// Those that preserve variance.
fn preserving() -> [Box<dyn NoiseSchedule>; 3] {
    [
        Box::new(ScaledLinear::stable_diffusion()),
        Box::new(ScaledLinear::new(1e-4, 0.02, 1000).unwrap()),
        Box::new(VpSde::cifar10()),
    ]
}

fn schedules() -> Vec<Box<dyn NoiseSchedule>> {
    let flow = |shift| Box::new(RectifiedFlow::new(shift).unwrap()) as Box<dyn NoiseSchedule>;
    preserving().into_iter().chain([flow(1.0), flow(3.0), flow(0.5)]).collect()
}

fn falls_strictly(values: &Tensor) -> bool {
    values.diff::<Tensor>(1, 0, None, None).lt(0.0).all().int64_value(&[]) == 1
}

proptest! {
    #[test]
    fn signal_falls_strictly_with_time(start in 1e-3..0.9f64, length in 0.01..1.0f64) {
        let end = start + length * (1.0 - start);
        let t = Tensor::linspace(start, end, 50, (Kind::Double, tch::Device::Cpu));
        for schedule in schedules() {
            prop_assert!(falls_strictly(&schedule.log_alpha(&t)));
            prop_assert!(falls_strictly(&schedule.alpha_bar(&t)));
            prop_assert!(falls_strictly(&schedule.half_log_snr(&t)));
            prop_assert!(falls_strictly(&schedule.sigma(&t).neg()));
        }
    }

    #[test]
    fn time_is_found_again_from_the_signal_to_noise_ratio(t in proptest::collection::vec(1e-3..1.0f64, 1..20)) {
        let t = Tensor::from_slice(&t);
        for schedule in schedules() {
            let found = schedule.time_at_half_log_snr(&schedule.half_log_snr(&t));
            prop_assert!(distance(&found, &t) < 1e-10);
            let t = t.to_kind(Kind::Float);
            let found = schedule.time_at_half_log_snr(&schedule.half_log_snr(&t));
            prop_assert_eq!(found.kind(), Kind::Float);
            // f32 loses 1 - alpha_bar near t = 0 and alpha's exponent near t = 1.
            prop_assert!(distance(&found, &t) < 1e-5);
        }
    }

    #[test]
    fn variance_is_preserved(t in 1e-3..1.0f64) {
        let t = Tensor::from(t);
        for schedule in preserving() {
            let (alpha, sigma) = (schedule.alpha(&t), schedule.sigma(&t));
            let variance = alpha.square() + sigma.square();
            prop_assert!((variance.double_value(&[]) - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn functions_of_one_schedule_agree(t in 1e-3..0.999f64, noise in -3.0..3.0f64) {
        let (t, noise) = (Tensor::from(t), Tensor::from(noise));
        for schedule in schedules() {
            let (alpha, sigma) = (schedule.alpha(&t), schedule.sigma(&t));
            prop_assert!(distance(&schedule.alpha_bar(&t), &alpha.square()) < 1e-14);
            prop_assert!(distance(&schedule.log_alpha(&t), &alpha.log()) < 1e-12);
            prop_assert!(distance(&schedule.half_log_snr(&t), &(&alpha / &sigma).log()) < 1e-10);
            prop_assert!(distance(&(schedule.noise_to_signal(&t) / (&sigma / &alpha).square()), &Tensor::from(1.0)) < 1e-9);
            prop_assert!(distance(&(schedule.score(&t, &noise) * &sigma), &-noise.shallow_clone()) < 1e-12);
            prop_assert!(distance(&schedule.time_at_log_alpha(&schedule.log_alpha(&t)), &t) < 1e-9);
        }
    }

    #[test]
    fn variance_is_added_at_the_rate_of_the_squared_diffusion(t in 0.002..0.99f64) {
        let half_width = 1e-6;
        let t = (t * 1000.0).floor() / 1000.0 + 5e-4; // between two knots
        let [before, at, after] = [t - half_width, t, t + half_width].map(Tensor::from);
        for schedule in schedules() {
            let rate = (schedule.added_variance(&before, &after) / (2.0 * half_width)).double_value(&[]);
            let expected = schedule.squared_diffusion(&at).double_value(&[]);
            // What fades again within the interval is of second order.
            let fading = schedule.beta(&at).double_value(&[]) * half_width;
            prop_assert!((rate - expected).abs() < (2.0 * fading + 1e-6) * expected.max(1.0), "{rate} {expected}");
        }
    }

    #[test]
    fn variance_adds_up(times in proptest::array::uniform3(1e-3..0.99f64)) {
        let mut times = times;
        times.sort_by(f64::total_cmp);
        let [s, between, t] = times.map(Tensor::from);
        for schedule in schedules() {
            let kept = (schedule.alpha(&t) / schedule.alpha(&between)).square();
            let sum = schedule.added_variance(&s, &between) * kept + schedule.added_variance(&between, &t);
            prop_assert!(distance(&sum, &schedule.added_variance(&s, &t)) < 1e-12);
        }
    }

    #[test]
    fn shift_multiplies_the_odds_of_noise(t in 1e-3..0.999f64, shift in 0.1..10.0f64) {
        let odds = |shift: f64| {
            let schedule = RectifiedFlow::new(shift).unwrap();
            let sigma = schedule.sigma(&Tensor::from(t)).double_value(&[]);
            assert!((schedule.network_time(&Tensor::from(t)).double_value(&[]) - 1000.0 * sigma).abs() < 1e-9);
            assert!(schedule.alpha(&Tensor::from(schedule.last_time())).double_value(&[]) > 0.9e-3);
            sigma / (1.0 - sigma)
        };
        prop_assert!((odds(shift) / odds(1.0) - shift).abs() < 1e-9 * shift);
    }

    #[test]
    fn beta_is_the_rate_at_which_the_signal_decays(t in 0.002..0.998f64) {
        let half_width = 1e-7;
        // Between two knots of the piecewise linear schedules, which lie at thousandths.
        let t = (t * 1000.0).floor() / 1000.0 + 5e-4;
        let at = |t: f64| Tensor::from(t);
        for schedule in schedules() {
            let rise = schedule.log_alpha(&at(t + half_width)) - schedule.log_alpha(&at(t - half_width));
            let slope = rise.double_value(&[]) / (2.0 * half_width);
            let beta = schedule.beta(&at(t)).double_value(&[]);
            prop_assert!((beta + 2.0 * slope).abs() < 1e-6 * beta.max(1.0));
        }
    }

    #[test]
    fn noising_is_undone_by_the_noise(t in 0.01..1.0f64, x in -3.0..3.0f64, noise in -3.0..3.0f64) {
        let (t, x_0, noise) = (Tensor::from(t), Tensor::from(x), Tensor::from(noise));
        for schedule in schedules() {
            let x_t = schedule.alpha(&t) * &x_0 + schedule.sigma(&t) * &noise;
            prop_assert!(distance(&Prediction::Epsilon.x_0(&noise, &x_t, &schedule.alpha(&t), &schedule.sigma(&t)), &x_0) < 1e-10);
        }
    }

    #[test]
    fn steps_compose(s in 0usize..=1000, between in 0usize..=1000, t in 0usize..=1000) {
        let schedule = ScaledLinear::stable_diffusion();
        let mut steps = [s, between, t];
        steps.sort_unstable();
        let [s, between, t] = steps;
        let whole = schedule.alpha_bar_between(s, t);
        let parts = schedule.alpha_bar_between(s, between) * schedule.alpha_bar_between(between, t);
        prop_assert!((whole / parts - 1.0).abs() < 1e-12);
        let table = schedule.alpha_bar_table();
        prop_assert!((whole * table[s] / table[t] - 1.0).abs() < 1e-12);
    }
}

#[test]
fn interpolation_passes_through_the_table() {
    let schedule = ScaledLinear::stable_diffusion();
    let table = Tensor::from_slice(&schedule.alpha_bar_table()[1..]);
    let (knots, _) = schedule.knots();
    let in_f64 = Tensor::arange_start(1, 1001, (Kind::Double, tch::Device::Cpu)) / 1000.0;
    assert!(distance(&schedule.alpha_bar(&in_f64), &table) < 1e-13);
    assert!(distance(&schedule.alpha_bar(&knots), &table) < 2e-6);
    assert_eq!(schedule.network_time(&in_f64).double_value(&[-1]), 1000.0);
}

#[test]
fn posterior_variance_is_that_of_gaussian_conditioning() {
    // Var(x_s | x_t, x_0) of jointly Gaussian x_s and x_t, from their covariance.
    let schedule = ScaledLinear::stable_diffusion();
    let table = schedule.alpha_bar_table();
    for (s, t) in [(1, 2), (10, 900), (500, 501), (999, 1000)] {
        let (variance_s, variance_t) = (1.0 - table[s], 1.0 - table[t]);
        let covariance = schedule.alpha_bar_between(s, t).sqrt() * variance_s;
        let conditional = variance_s - covariance * covariance / variance_t;
        assert!((schedule.posterior_variance(s, t) - conditional).abs() < 1e-12);
    }
    assert_eq!(schedule.posterior_variance(0, 1000), 0.0);
}

#[test]
fn steps_out_of_range_are_refused() {
    let schedule = ScaledLinear::stable_diffusion();
    assert_eq!(
        schedule.training_times_at(&[1000, 1001]).unwrap_err().to_string(),
        "step must be in 1..=1000, but is 1001"
    );
    assert!(schedule.training_times_at(&[0]).is_err());
    assert!(schedule.training_times_at(&[1, 1000]).is_ok());
}

#[test]
fn impossible_schedules_are_refused() {
    let message = |result: Result<ScaledLinear, dim_diffusion::DiffusionError>| result.unwrap_err().to_string();
    assert!(message(ScaledLinear::new(0.0, 0.1, 10)).starts_with("beta_first must be"));
    assert!(message(ScaledLinear::new(0.1, 0.01, 10)).starts_with("beta_last must be"));
    assert!(message(ScaledLinear::new(0.1, f64::NAN, 10)).starts_with("beta_last must be"));
    assert!(message(ScaledLinear::new(0.01, 0.1, 1)).starts_with("steps must be"));
    assert!(VpSde::new(0.0, 20.0, 999.0).is_err());
    assert!(VpSde::new(0.1, 0.05, 999.0).is_err());
    assert!(VpSde::new(0.1, 20.0, 0.0).is_err());
}

#[test]
fn flows_of_impossible_shift_are_refused() {
    for shift in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = RectifiedFlow::new(shift).unwrap_err().to_string();
        assert!(error.starts_with("time_shift must be a positive number"), "{error}");
    }
}

#[test]
fn flow_training_tells_the_network_how_much_noise_there_is() {
    let times = RectifiedFlow::new(3.0).unwrap().training_times(&[0.0, 0.25, 0.5]);
    let expected = Tensor::from_slice(&[0.0, 0.5, 0.75]);
    assert!(distance(&times.sigma, &expected) < 1e-15);
    assert!(distance(&times.alpha, &(1.0 - &expected)) < 1e-15);
    assert_eq!(times.network_time, Tensor::from_slice(&[0.0f32, 500.0, 750.0]));
}
