//! DDIM: Song, Meng and Ermon, "Denoising Diffusion Implicit Models", arXiv 2010.02502, equations 12 and 16.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    Observer, SamplerInputs,
    run::Run,
    time_grid::{self, uniform_times},
};
use crate::DiffusionError;

/// Options of [`ddim`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DdimOptions {
    /// Steps, each of which calls the network once.
    pub steps: usize,
    /// How much of each step's noise is fresh: 0 is deterministic, 1 the ancestral sampler of DDPM.
    pub eta: f64,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time of the result.
    pub t_end: f64,
}

impl Default for DdimOptions {
    fn default() -> Self {
        Self { steps: 50, eta: 0.0, t_start: 1.0, t_end: 1e-3 }
    }
}

impl DdimOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        time_grid::validate(self.steps, self.t_start, self.t_end)?;
        // Above 1 the fresh noise of a step could exceed all the noise that may be left after it.
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(DiffusionError::option("eta", "0 to 1", self.eta));
        }
        Ok(())
    }
}

/// Samples with DDIM from `t_start` to `t_end` on uniform times.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn ddim(
    inputs: &SamplerInputs<'_>,
    options: &DdimOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    options.validate()?;
    let _no_grad = tch::no_grad_guard();
    let times = uniform_times(inputs.first_time(options.t_start), options.t_end, options.steps, inputs.x.kind());
    let time = |i: usize| times.get(i as i64);

    let mut run = Run::start(inputs, options.steps, [&time(0), &time(options.steps)], observer)?;
    let mut x = inputs.x.shallow_clone();
    for step in 0..options.steps {
        let (from, to) = (run.marginal(time(step)), run.marginal(time(step + 1)));
        let [x_0, noise] = run.x_0_and_noise(&x, &from)?;
        x = if options.eta > 0.0 {
            let added = run.schedule().added_variance(&to.t, &from.t);
            let fresh = (&to.sigma / &from.sigma) * added.sqrt() * options.eta;
            let kept = (to.sigma.square() - fresh.square()).clamp_min(0.0).sqrt();
            x_0 * &to.alpha + noise * kept + run.fresh_noise(step, &x)? * fresh
        } else {
            x_0 * &to.alpha + noise * &to.sigma
        };
        run.finished(step + 1, &to.t, &x)?;
    }
    Ok(x)
}
