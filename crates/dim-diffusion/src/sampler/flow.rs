//! Euler's and Heun's methods on straight paths: Liu et al., "Flow Straight and Fast", arXiv 2209.03003, section 2.1.
//!
//! Divided by `alpha + sigma`, an image of any schedule is `(1 − s) x_0 + s noise` with `s = sigma / (alpha + sigma)`, and its derivative
//! by `s` along the probability flow is `noise − x_0`. For a rectified flow the divisor is 1 and `s` is sigma itself.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    Observer, SamplerInputs,
    run::{Marginal, Run},
    time_grid::uniform_times,
};
use crate::{DiffusionError, Prediction};

/// Options of [`flow`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowOptions {
    /// Steps, evenly in the schedule's time; a time shift moves them towards the noise.
    pub steps: usize,
    /// 1 is Euler's method, 2 Heun's, which calls the network twice a step, but once in the last one if it ends at 0.
    pub order: usize,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time of the result; 0 is without noise.
    pub t_end: f64,
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self { steps: 50, order: 1, t_start: 1.0, t_end: 0.0 }
    }
}

impl FlowOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        if self.steps == 0 {
            return Err(DiffusionError::option("steps", "at least 1", self.steps));
        }
        if !(1..=2).contains(&self.order) {
            return Err(DiffusionError::option("order", "1 or 2", self.order));
        }
        if !(self.t_start > 0.0 && self.t_start <= 1.0) {
            return Err(DiffusionError::option("t_start", "above 0 and at most 1", self.t_start));
        }
        if !(self.t_end >= 0.0 && self.t_end < self.t_start) {
            let expected = format!("0 or more and below t_start = {}", self.t_start);
            return Err(DiffusionError::option("t_end", expected, self.t_end));
        }
        Ok(())
    }

    /// How many times the network is called.
    pub fn evaluations(&self) -> usize {
        self.steps * self.order - usize::from(self.order == 2 && self.t_end == 0.0)
    }
}

/// Samples from `t_start` to `t_end`.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn flow(
    inputs: &SamplerInputs<'_>,
    options: &FlowOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    options.validate()?;
    let _no_grad = tch::no_grad_guard();
    // Of pure noise, predicted noise tells no image; any other prediction does.
    let t_start = match inputs.denoiser.prediction() {
        Prediction::Epsilon => inputs.first_time(options.t_start),
        _ => options.t_start,
    };
    let times = uniform_times(t_start, options.t_end, options.steps, inputs.x.kind());
    let time = |i: usize| times.get(i as i64);
    let ends_clean = options.t_end == 0.0;
    // The network is never asked about a clean image.
    let last_asked = options.steps - usize::from(ends_clean);

    let mut run = Run::start(inputs, options.steps, [&time(0), &time(last_asked)], observer)?;
    let mut x = inputs.x.shallow_clone();
    for step in 0..options.steps {
        let clean = ends_clean && step + 1 == options.steps;
        let from = Straight::of(run.marginal(time(step)));
        let to = if clean { Straight::clean(time(step + 1)) } else { Straight::of(run.marginal(time(step + 1))) };
        let change = &to.share - &from.share;
        let velocity = velocity(&mut run, &x, &from)?;
        let start = &x / &from.scale;
        x = (&start + &velocity * &change) * &to.scale;
        if options.order == 2 && !clean {
            let velocity_there = self::velocity(&mut run, &x, &to)?;
            x = (start + (velocity + velocity_there) * (change * 0.5)) * &to.scale;
        }
        run.finished(step + 1, &to.at.t, &x)?;
    }
    Ok(x)
}

/// A time as one of a straight path.
struct Straight {
    at: Marginal,
    /// `alpha + sigma`.
    scale: Tensor,
    /// The share of noise once that is divided by.
    share: Tensor,
}

impl Straight {
    fn of(at: Marginal) -> Self {
        let scale = &at.alpha + &at.sigma;
        Self { share: &at.sigma / &scale, scale, at }
    }

    /// Time 0, where interpolated schedules have no numbers of their own.
    fn clean(t: Tensor) -> Self {
        Self::of(Marginal { alpha: t.ones_like(), sigma: t.zeros_like(), half_log_snr: t.full_like(f64::INFINITY), t })
    }
}

fn velocity(run: &mut Run<'_, '_, '_>, x: &Tensor, at: &Straight) -> Result<Tensor, DiffusionError> {
    let [x_0, noise] = run.x_0_and_noise(x, &at.at)?;
    Ok(noise - x_0)
}
