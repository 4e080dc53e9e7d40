//! Samplers: from noise to images, one algorithm a file.
//!
//! Every sampler is a function of what it works on ([`SamplerInputs`]), its own options and an observer. It runs
//! without gradients, in the kind of `x` (f32, or f64), and asks for the schedule's numbers on the CPU, so that no
//! step waits for a GPU.

mod ancestral;
mod ddim;
mod dpm_multistep;
mod dpm_solver;
mod edm;
mod euler_maruyama;
mod flow;
mod run;
mod time_grid;
mod unipc;

pub use ancestral::{AncestralOptions, StepVariance, ancestral};
pub use ddim::{DdimOptions, ddim};
pub use dpm_multistep::{DpmMultistepOptions, dpm_multistep};
pub(crate) use dpm_solver::inner_fractions;
pub use dpm_solver::{DpmSolverOptions, Parametrization, dpm_solver};
pub use edm::{EdmOptions, edm};
pub use euler_maruyama::{Equation, EulerMaruyamaOptions, drift, euler_maruyama, score};
pub use flow::{FlowOptions, flow};
pub use time_grid::{Spacing, uniform_times};
pub use unipc::{UniPcOptions, Weighting, unipc};

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Denoiser, DiffusionError, noise::StepNoise, schedule::NoiseSchedule};

/// What a sampler works on, whichever algorithm it is.
#[derive(Clone, Copy)]
pub struct SamplerInputs<'a> {
    /// The network, guided or not.
    pub denoiser: &'a dyn Denoiser,
    /// The schedule that the network was trained with.
    pub schedule: &'a dyn NoiseSchedule,
    /// The state at the start time, usually standard normal noise: `[batch, …]`, f32 or f64.
    pub x: &'a Tensor,
    /// Class labels, `[batch]`, i64, on any device; `None` for a network used without classes.
    pub class: Option<&'a Tensor>,
    /// Noise for stochastic samplers; deterministic ones never draw from it.
    pub noise: Option<&'a dyn StepNoise>,
}

impl SamplerInputs<'_> {
    /// The first time of a sampler that divides by `alpha`: `t_start`, but no later than the schedule has signal.
    fn first_time(&self, t_start: f64) -> f64 {
        t_start.min(self.schedule.last_time())
    }
}

/// What an observer is shown: the start (step 0), then the state after every step.
pub struct Step<'a> {
    /// Steps finished.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Calls of the network so far.
    pub evaluations: usize,
    /// The time reached.
    pub t: f64,
    /// The state at that time, of the shape of the sampler's input.
    pub x: &'a Tensor,
}

/// Called at the start and after every step; `Break` ends sampling with [`DiffusionError::Cancelled`].
pub type Observer<'a> = dyn FnMut(&Step<'_>) -> ControlFlow<()> + 'a;

/// An observer that does nothing.
pub fn unobserved(_: &Step<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A choice of algorithm with its options, as it stands in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
pub enum Sampler {
    /// Single-step DPM-Solver or DPM-Solver++.
    DpmSolver(DpmSolverOptions),
    /// Multistep DPM-Solver++, deterministic or stochastic.
    DpmMultistep(DpmMultistepOptions),
    /// UniPC, a multistep predictor and corrector.
    #[serde(rename = "unipc")]
    UniPc(UniPcOptions),
    /// Euler's or Heun's method on EDM's noise levels.
    Edm(EdmOptions),
    /// Euler's or Heun's method on straight paths.
    Flow(FlowOptions),
    /// DDIM.
    Ddim(DdimOptions),
    /// DDPM's ancestral sampling, which Euler ancestral is, too.
    Ancestral(AncestralOptions),
    /// Euler–Maruyama on the reverse SDE, or Euler on the probability-flow ODE.
    EulerMaruyama(EulerMaruyamaOptions),
}

impl Sampler {
    /// Checks the options without sampling.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        match self {
            Self::DpmSolver(options) => options.validate(),
            Self::DpmMultistep(options) => options.validate(),
            Self::UniPc(options) => options.validate(),
            Self::Edm(options) => options.validate(),
            Self::Flow(options) => options.validate(),
            Self::Ddim(options) => options.validate(),
            Self::Ancestral(options) => options.validate(),
            Self::EulerMaruyama(options) => options.validate(),
        }
    }

    /// How many times the network will be called for each batch.
    pub fn evaluations(&self) -> usize {
        match self {
            Self::DpmSolver(options) => options.steps,
            Self::DpmMultistep(options) => options.steps,
            Self::UniPc(options) => options.steps,
            Self::Edm(options) => options.steps * options.order,
            Self::Flow(options) => options.evaluations(),
            Self::Ddim(options) => options.steps,
            Self::Ancestral(options) => options.steps,
            Self::EulerMaruyama(options) => options.steps,
        }
    }

    /// Runs the chosen algorithm; returns the state at the end time, of the shape and kind of `inputs.x`.
    ///
    /// # Errors
    /// On invalid options, wrong shapes, kinds or labels, missing noise, a failing network, or a cancelling observer.
    pub fn sample(&self, inputs: &SamplerInputs<'_>, observer: &mut Observer<'_>) -> Result<Tensor, DiffusionError> {
        match self {
            Self::DpmSolver(options) => dpm_solver(inputs, options, observer),
            Self::DpmMultistep(options) => dpm_multistep(inputs, options, observer),
            Self::UniPc(options) => unipc(inputs, options, observer),
            Self::Edm(options) => edm(inputs, options, observer),
            Self::Flow(options) => flow(inputs, options, observer),
            Self::Ddim(options) => ddim(inputs, options, observer),
            Self::Ancestral(options) => ancestral(inputs, options, observer),
            Self::EulerMaruyama(options) => euler_maruyama(inputs, options, observer),
        }
    }
}
