//! DPM-Solver++ as a multistep method, deterministic or stochastic: Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of
//! Diffusion Probabilistic Models", arXiv 2211.01095, algorithm 2 and section 4.4.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    Observer, SamplerInputs,
    run::Run,
    time_grid::{self, Spacing},
};
use crate::DiffusionError;

/// Options of [`dpm_multistep`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpmMultistepOptions {
    /// Steps, each of which calls the network once.
    pub steps: usize,
    /// 2 looks back on the step before; 1 does not.
    pub order: usize,
    /// Adds noise at every step (SDE-DPM-Solver++).
    pub stochastic: bool,
    /// Where the times lie.
    pub spacing: Spacing,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time of the result.
    pub t_end: f64,
}

impl Default for DpmMultistepOptions {
    fn default() -> Self {
        Self { steps: 25, order: 2, stochastic: false, spacing: Spacing::LogSnr, t_start: 1.0, t_end: 1e-3 }
    }
}

impl DpmMultistepOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        time_grid::validate(self.steps, self.t_start, self.t_end)?;
        if !(1..=2).contains(&self.order) {
            return Err(DiffusionError::option("order", "1 or 2", self.order));
        }
        Ok(())
    }
}

/// Samples from `t_start` to `t_end`.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn dpm_multistep(
    inputs: &SamplerInputs<'_>,
    options: &DpmMultistepOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    options.validate()?;
    let _no_grad = tch::no_grad_guard();
    let ends = [inputs.first_time(options.t_start), options.t_end];
    let times = options.spacing.times(inputs.schedule, ends, options.steps, inputs.x.kind());
    let time = |i: usize| times.get(i as i64);

    let mut run = Run::start(inputs, options.steps, [&time(0), &time(options.steps)], observer)?;
    let mut x = inputs.x.shallow_clone();
    // The clean image that the step before predicted, and how far it went in half the log signal-to-noise ratio.
    let mut before: Option<(Tensor, Tensor)> = None;
    for step in 0..options.steps {
        let (from, to) = (run.marginal(time(step)), run.marginal(time(step + 1)));
        let x_0 = run.x_0(&x, &from)?;
        let h = &to.half_log_snr - &from.half_log_snr;
        // Half a step further along the line through both.
        let ahead = match before.take().filter(|_| options.order == 2) {
            Some((x_0_before, h_before)) => &x_0 + (&x_0 - x_0_before) * (&h / h_before * 0.5),
            None => x_0.shallow_clone(),
        };
        let ratio = &to.sigma / &from.sigma;
        x = if options.stochastic {
            let kept = (&h * -2.0).exp();
            let fresh = 1f64 - &kept;
            x * (ratio * (-&h).exp())
                + ahead * (&to.alpha * &fresh)
                + run.fresh_noise(step, &x_0)? * (&to.sigma * fresh.sqrt())
        } else {
            x * ratio - ahead * (&to.alpha * (-&h).expm1())
        };
        before = Some((x_0, h));
        run.finished(step + 1, &to.t, &x)?;
    }
    Ok(x)
}
