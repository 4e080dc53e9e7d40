//! The discrete schedule of Stable Diffusion and its continuous interpolation.
//!
//! Betas: Rombach et al., arXiv 2112.10752 (`scaled_linear`). Interpolation: Lu et al., DPM-Solver,
//! arXiv 2206.00927, appendix D.4.

use tch::{Device, Kind, Tensor};

use super::{NoiseSchedule, TrainingTimes, piecewise_linear::PiecewiseLinear};
use crate::DiffusionError;

/// A schedule of `N` discrete steps whose `sqrt(beta)` grows linearly.
///
/// The tables are exact in f64 and serve training; in between, `log alpha` is interpolated linearly, knot `n` lying
/// at time `n / N`. The network is told `n = N t`.
#[derive(Debug)]
pub struct ScaledLinear {
    betas: Vec<f64>,
    alpha_bar: Vec<f64>,
    log_alpha_f32: PiecewiseLinear,
    log_alpha_f64: PiecewiseLinear,
}

impl ScaledLinear {
    /// The schedule that DiM's latent models are trained on: betas from 0.00085 to 0.012 in 1000 steps.
    pub fn stable_diffusion() -> Self {
        Self::from_betas(scaled_linear_betas(0.00085, 0.012, 1000))
    }

    /// A schedule of `steps` betas from `beta_first` to `beta_last`.
    ///
    /// # Errors
    /// Unless `0 < beta_first <= beta_last < 1` and there are at least two steps.
    pub fn new(beta_first: f64, beta_last: f64, steps: usize) -> Result<Self, DiffusionError> {
        if !(beta_first > 0.0 && beta_first < 1.0) {
            return Err(DiffusionError::option("beta_first", "above 0 and below 1", beta_first));
        }
        if !(beta_last >= beta_first && beta_last < 1.0) {
            return Err(DiffusionError::option("beta_last", "at least beta_first and below 1", beta_last));
        }
        if steps < 2 {
            return Err(DiffusionError::option("steps", "at least 2", steps));
        }
        Ok(Self::from_betas(scaled_linear_betas(beta_first, beta_last, steps)))
    }

    fn from_betas(betas: Vec<f64>) -> Self {
        let products = betas.iter().scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        });
        let alpha_bar = std::iter::once(1.0).chain(products).collect();
        Self {
            alpha_bar,
            log_alpha_f32: log_alpha_knots(&betas, Kind::Float),
            log_alpha_f64: log_alpha_knots(&betas, Kind::Double),
            betas,
        }
    }

    /// The number of discrete steps, `N`.
    pub fn steps(&self) -> usize {
        self.betas.len()
    }

    /// `beta_n` for `n` in `1..=N`, at index `n - 1`.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// `alpha_bar_n`, the product of `1 - beta_i` up to `n`, for `n` in `0..=N`.
    pub fn alpha_bar_table(&self) -> &[f64] {
        &self.alpha_bar
    }

    /// `alpha_bar_t / alpha_bar_s`: what is left at step `t` of the signal's variance at step `s <= t`.
    pub fn alpha_bar_between(&self, s: usize, t: usize) -> f64 {
        self.betas[s..t].iter().map(|beta| 1.0 - beta).product()
    }

    /// The variance of `x_s` given `x_t` and `x_0`, for `s < t` (Ho et al., arXiv 2006.11239, equation 7).
    pub fn posterior_variance(&self, s: usize, t: usize) -> f64 {
        (1.0 - self.alpha_bar_between(s, t)) * (1.0 - self.alpha_bar[s]) / (1.0 - self.alpha_bar[t])
    }

    /// The knots `(n / N, log alpha_n)`, `n` in `1..=N`, between which [`NoiseSchedule::log_alpha`] is linear in f32.
    pub fn knots(&self) -> (Tensor, Tensor) {
        self.log_alpha_f32.points()
    }

    /// The training times of given steps, each in `1..=N`; shares from the exact tables.
    ///
    /// # Errors
    /// If a step is not in `1..=N`.
    pub fn training_times_at(&self, steps: &[usize]) -> Result<TrainingTimes, DiffusionError> {
        match steps.iter().find(|step| !(1..=self.steps()).contains(step)) {
            None => Ok(self.training_times_in_range(steps)),
            Some(step) => Err(DiffusionError::option("step", format!("in 1..={}", self.steps()), step)),
        }
    }

    fn training_times_in_range(&self, steps: &[usize]) -> TrainingTimes {
        let per_step = |f: &dyn Fn(f64) -> f64| {
            Tensor::from_slice(&steps.iter().map(|&n| f(self.alpha_bar[n])).collect::<Vec<_>>())
        };
        let network_time: Vec<f32> = steps.iter().map(|&n| n as f32).collect();
        TrainingTimes {
            network_time: Tensor::from_slice(&network_time),
            alpha: per_step(&|alpha_bar| alpha_bar.sqrt()),
            sigma: per_step(&|alpha_bar| (1.0 - alpha_bar).sqrt()),
        }
    }

    fn log_alpha_knots(&self, kind: Kind) -> &PiecewiseLinear {
        if kind == Kind::Double { &self.log_alpha_f64 } else { &self.log_alpha_f32 }
    }
}

impl NoiseSchedule for ScaledLinear {
    fn log_alpha(&self, t: &Tensor) -> Tensor {
        self.log_alpha_knots(t.kind()).at(t)
    }

    fn time_at_log_alpha(&self, log_alpha: &Tensor) -> Tensor {
        self.log_alpha_knots(log_alpha.kind()).inverse_of_falling().at(log_alpha)
    }

    fn beta(&self, t: &Tensor) -> Tensor {
        self.log_alpha_knots(t.kind()).slope_at(t) * -2.0
    }

    fn network_time(&self, t: &Tensor) -> Tensor {
        t * self.steps() as f64
    }

    fn training_times(&self, uniform: &[f64]) -> TrainingTimes {
        let steps: Vec<usize> =
            uniform.iter().map(|u| 1 + ((u * self.steps() as f64) as usize).min(self.steps() - 1)).collect();
        self.training_times_in_range(&steps)
    }
}

fn scaled_linear_betas(first: f64, last: f64, steps: usize) -> Vec<f64> {
    let (first, last) = (first.sqrt(), last.sqrt());
    let increment = (last - first) / (steps - 1) as f64;
    (0..steps).map(|i| (first + increment * i as f64).powi(2)).collect()
}

/// `log alpha_n = ½ Σ log(1 - beta_i)`, summed in `kind`.
fn log_alpha_knots(betas: &[f64], kind: Kind) -> PiecewiseLinear {
    let steps = betas.len() as i64;
    let betas = Tensor::from_slice(betas).to_kind(kind);
    let log_alpha = (1f64 - betas).log().cumsum(0, kind) * 0.5;
    let times = Tensor::linspace(0.0, 1.0, steps + 1, (kind, Device::Cpu)).slice(0, 1, None, 1);
    PiecewiseLinear::new(times, log_alpha)
}
