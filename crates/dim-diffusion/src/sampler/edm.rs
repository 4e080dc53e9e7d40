//! Euler's and Heun's methods on the noise levels of EDM: Karras et al., "Elucidating the Design Space of Diffusion-Based
//! Generative Models", arXiv 2206.00364, algorithm 1 and equation 5.
//!
//! Divided by alpha, an image is `x_0 + s noise` with the noise level `s = sigma / alpha`, and its derivative by `s` along the
//! probability flow is the predicted noise itself.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    Observer, SamplerInputs,
    run::Run,
    time_grid::{self, Spacing},
};
use crate::DiffusionError;

/// Options of [`edm`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdmOptions {
    /// Steps, each of which calls the network as often as the order says.
    pub steps: usize,
    /// 1 is Euler's method, 2 Heun's.
    pub order: usize,
    /// How much denser the steps are where there is little noise.
    pub rho: f64,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time of the result.
    pub t_end: f64,
}

impl Default for EdmOptions {
    fn default() -> Self {
        Self { steps: 18, order: 2, rho: 7.0, t_start: 1.0, t_end: 1e-3 }
    }
}

impl EdmOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        time_grid::validate(self.steps, self.t_start, self.t_end)?;
        if !(1..=2).contains(&self.order) {
            return Err(DiffusionError::option("order", "1 or 2", self.order));
        }
        if !(self.rho >= 1.0 && self.rho.is_finite()) {
            return Err(DiffusionError::option("rho", "a finite number of at least 1", self.rho));
        }
        Ok(())
    }
}

/// Samples from `t_start` to `t_end`.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn edm(
    inputs: &SamplerInputs<'_>,
    options: &EdmOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    options.validate()?;
    let _no_grad = tch::no_grad_guard();
    let spacing = Spacing::Edm { rho: options.rho };
    let ends = [inputs.first_time(options.t_start), options.t_end];
    let times = spacing.times(inputs.schedule, ends, options.steps, inputs.x.kind());
    let time = |i: usize| times.get(i as i64);

    let mut run = Run::start(inputs, options.steps, [&time(0), &time(options.steps)], observer)?;
    let mut x = inputs.x.shallow_clone();
    for step in 0..options.steps {
        let (from, to) = (run.marginal(time(step)), run.marginal(time(step + 1)));
        let change = &to.sigma / &to.alpha - &from.sigma / &from.alpha;
        let noise = run.noise(&x, &from)?;
        let start = &x / &from.alpha;
        x = (&start + &noise * &change) * &to.alpha;
        if options.order == 2 {
            let noise_there = run.noise(&x, &to)?;
            x = (start + (noise + noise_there) * (change * 0.5)) * &to.alpha;
        }
        run.finished(step + 1, &to.t, &x)?;
    }
    Ok(x)
}
