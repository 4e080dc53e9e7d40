//! Ancestral sampling: every step draws from the Gaussian between the noisy image and its predecessor. Ho et al., "Denoising Diffusion
//! Probabilistic Models", arXiv 2006.11239, algorithm 2.
//!
//! With the posterior's variance this is DDIM at `eta = 1`, and what is called Euler ancestral: Euler's method on noise levels down to
//! where fresh noise leads back up to the next level.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    Observer, SamplerInputs,
    run::Run,
    time_grid::{self, Spacing},
};
use crate::DiffusionError;

/// The variance of a step's fresh noise; the paper's two choices (section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepVariance {
    /// That of the predecessor given the noisy image and the clean one: exact if all images are the same.
    #[default]
    Posterior,
    /// That which the schedule adds in between: exact if pixels are independent, of variance 1, and variance is preserved.
    Added,
}

/// Options of [`ancestral`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AncestralOptions {
    /// Steps, each of which calls the network once.
    pub steps: usize,
    /// The variance of the fresh noise.
    pub variance: StepVariance,
    /// Where the times lie.
    pub spacing: Spacing,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time of the result.
    pub t_end: f64,
}

impl Default for AncestralOptions {
    fn default() -> Self {
        Self { steps: 250, variance: StepVariance::Posterior, spacing: Spacing::Time, t_start: 1.0, t_end: 1e-3 }
    }
}

impl AncestralOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        time_grid::validate(self.steps, self.t_start, self.t_end)
    }
}

/// Samples from `t_start` to `t_end`.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn ancestral(
    inputs: &SamplerInputs<'_>,
    options: &AncestralOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    options.validate()?;
    let _no_grad = tch::no_grad_guard();
    let ends = [inputs.first_time(options.t_start), options.t_end];
    let times = options.spacing.times(inputs.schedule, ends, options.steps, inputs.x.kind());
    let time = |i: usize| times.get(i as i64);

    let mut run = Run::start(inputs, options.steps, [&time(0), &time(options.steps)], observer)?;
    let mut x = inputs.x.shallow_clone();
    for step in 0..options.steps {
        let (from, to) = (run.marginal(time(step)), run.marginal(time(step + 1)));
        let [x_0, noise] = run.x_0_and_noise(&x, &from)?;
        let twice_h = (&to.half_log_snr - &from.half_log_snr) * 2.0;
        let fresh = match options.variance {
            StepVariance::Posterior => &to.sigma * (-(-&twice_h).expm1()).sqrt(),
            StepVariance::Added => run.schedule().added_variance(&to.t, &from.t).sqrt(),
        };
        // The mean of the posterior, by the noise in it.
        let mean = x_0 * &to.alpha + noise * (&to.sigma * (twice_h * -0.5).exp());
        x = mean + run.fresh_noise(step, &x)? * fresh;
        run.finished(step + 1, &to.t, &x)?;
    }
    Ok(x)
}
