//! Euler–Maruyama on the reverse SDE, and Euler on its probability-flow ODE.
//!
//! Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", arXiv 2011.13456,
//! equations 6 and 13. DiM's CIFAR-10 samples are made by 1000 steps of the SDE.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{Observer, SamplerInputs, run::Run, time_grid};
use crate::{DiffusionError, schedule::NoiseSchedule};

/// Which equation is walked backwards in time; both have the same marginal distributions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Equation {
    /// The reverse SDE, which adds noise at every step but the last.
    #[default]
    ReverseSde,
    /// The ODE without noise.
    ProbabilityFlow,
}

/// Options of [`euler_maruyama`]; the default is DiM's evaluation on CIFAR-10.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EulerMaruyamaOptions {
    /// Steps, each of which calls the network once; at least 2.
    pub steps: usize,
    /// The equation.
    pub equation: Equation,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time from which the last step goes straight to 0, without noise.
    pub t_end: f64,
}

impl Default for EulerMaruyamaOptions {
    fn default() -> Self {
        Self { steps: 1000, equation: Equation::ReverseSde, t_start: 1.0, t_end: 1e-3 }
    }
}

impl EulerMaruyamaOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        time_grid::validate(self.steps, self.t_start, self.t_end)?;
        if self.steps < 2 {
            return Err(DiffusionError::option(
                "steps",
                "at least 2: one to t_end and one from there to 0",
                self.steps,
            ));
        }
        Ok(())
    }

    /// The times visited, `[steps + 1]`, rising: 0, then evenly from `t_end` to `t_start`. Spaced in f64, so that the
    /// rounding to f32 is that of the DiM authors' code.
    pub fn times(&self, kind: Kind) -> Tensor {
        let options = (Kind::Double, Device::Cpu);
        let spaced = Tensor::linspace(self.t_end, self.t_start, self.steps as i64, options);
        Tensor::cat(&[Tensor::zeros([1], options), spaced], 0).to_kind(kind)
    }
}

/// Samples with Euler–Maruyama from `t_start` to 0.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn euler_maruyama(
    inputs: &SamplerInputs<'_>,
    options: &EulerMaruyamaOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    options.validate()?;
    let _no_grad = tch::no_grad_guard();
    let options = EulerMaruyamaOptions { t_start: inputs.first_time(options.t_start), ..*options };
    let times = options.times(inputs.x.kind());
    let time = |steps_left: usize| times.get(steps_left as i64);

    let mut run = Run::start(inputs, options.steps, [&time(options.steps), &time(1)], observer)?;
    let mut x = inputs.x.shallow_clone();
    for step in 0..options.steps {
        let (t, s) = (time(options.steps - step), time(options.steps - step - 1));
        let from = run.marginal(t.shallow_clone());
        let score = score(inputs.schedule, &t, &run.noise(&x, &from)?);
        let elapsed = &s - &t;
        let mean = &x + drift(inputs.schedule, options.equation, &x, &t, &score) * &elapsed;
        let last = step + 1 == options.steps;
        x = if options.equation == Equation::ReverseSde && !last {
            let spread = inputs.schedule.squared_diffusion(&t).sqrt() * elapsed.neg().sqrt();
            mean + run.fresh_noise(step, &x)? * spread
        } else {
            mean
        };
        run.finished(step + 1, &s, &x)?;
    }
    Ok(x)
}

/// The score (the gradient of the log density) that predicted noise stands for; `t` is 0-dimensional.
pub fn score(schedule: &dyn NoiseSchedule, t: &Tensor, noise: &Tensor) -> Tensor {
    schedule.score(t, noise)
}

/// `dx/dt` of the equation's deterministic part at `x` and `t` (0-dimensional), given the score there.
pub fn drift(schedule: &dyn NoiseSchedule, equation: Equation, x: &Tensor, t: &Tensor, score: &Tensor) -> Tensor {
    // The root squared: the DiM authors' rounding, which shows where both terms cancel.
    let squared_diffusion = schedule.squared_diffusion(t).sqrt().square();
    let of_score = match equation {
        Equation::ReverseSde => squared_diffusion,
        Equation::ProbabilityFlow => squared_diffusion * 0.5,
    };
    x * (schedule.beta(t) * -0.5) - score * of_score
}
