//! The reverse SDE and its ODE on Gaussian data: `em.*` and `em_ode.*`.

use std::ops::ControlFlow;

use tch::{Kind, Tensor};

use super::{
    Check,
    closed_form::GaussianDenoiser,
    reference::{Reference, TOLERANCE, unusable},
};
use crate::{
    Denoiser, DiffusionError, Prediction,
    noise::StepNoise,
    sampler::{Equation, EulerMaruyamaOptions, SamplerInputs, drift, euler_maruyama as walk, score},
    schedule::{NoiseSchedule, VpSde},
};

const TIME_SCALE: f64 = 999.0;

/// Score, drift and predicted image at single times: `em.{score, drift_sde, drift_ode, x0_pred}.{t}`.
pub(super) fn equations(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    let schedule = VpSde::cifar10();
    for (name, time) in reference.variants::<f32>("em.score.", "") {
        let key = |part: &str| name.replacen("score", part, 1);
        let x = reference.get("em.x_init")?;
        let t = Tensor::from(time);
        let network_time = schedule.network_time(&t).view([1]).repeat([x.size()[0]]);
        let noise = gaussian(reference, &schedule)?.predict(x, &network_time, None)?;
        let score = score(&schedule, &t, &noise);
        checks.push(reference.compare(name, &score)?);
        let sde = drift(&schedule, Equation::ReverseSde, x, &t, &score);
        checks.push(reference.compare(&key("drift_sde"), &sde)?);
        // Towards t = 1 large terms cancel in these two.
        let tolerance = if time > 0.85 { 5.0 * TOLERANCE } else { TOLERANCE };
        let ode = drift(&schedule, Equation::ProbabilityFlow, x, &t, &score);
        checks.push(reference.compare_within(&key("drift_ode"), &ode, tolerance)?);
        let x_0 = Prediction::Epsilon.x_0(&noise, x, &schedule.alpha(&t), &schedule.sigma(&t));
        checks.push(reference.compare_within(&key("x0_pred"), &x_0, tolerance)?);
    }
    Ok(())
}

/// Whole walks: `em.{n}.*` with the noise that the file gives, `em_ode.{n}.*` without.
pub(super) fn euler_maruyama(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    for (name, steps) in reference.variants::<usize>("em.", ".timesteps") {
        let options = EulerMaruyamaOptions { steps, ..Default::default() };
        checks.push(reference.compare(name, &options.times(Kind::Float))?);
    }
    for (name, steps) in reference.variants::<usize>("em.", ".trace") {
        // Few steps reach states above 10, where an f32 ulp is 1e-6.
        let tolerance = if steps < 10 { 3.0 * TOLERANCE } else { TOLERANCE };
        let options = EulerMaruyamaOptions { steps, ..Default::default() };
        let noise = Recorded { name: format!("em.{steps}.noise"), reference };
        checks.push(reference.compare_within(name, &trace(reference, &options, Some(&noise))?, tolerance)?);
    }
    for (name, steps) in reference.variants::<usize>("em_ode.", ".trace") {
        let options = EulerMaruyamaOptions { steps, equation: Equation::ProbabilityFlow, ..Default::default() };
        checks.push(reference.compare(name, &trace(reference, &options, None)?)?);
    }
    Ok(())
}

fn gaussian<'a>(reference: &Reference<'_>, schedule: &'a VpSde) -> Result<GaussianDenoiser<'a>, DiffusionError> {
    let (mean, deviation) = (reference.get("em.mu")?, reference.number("em.s")?);
    Ok(GaussianDenoiser::new(schedule, TIME_SCALE, mean, deviation))
}

/// The states visited, `[steps + 1, batch, …]`, from `t = 1` downwards.
fn trace(
    reference: &Reference<'_>,
    options: &EulerMaruyamaOptions,
    noise: Option<&dyn StepNoise>,
) -> Result<Tensor, DiffusionError> {
    let schedule = VpSde::cifar10();
    let inputs = SamplerInputs {
        denoiser: &gaussian(reference, &schedule)?,
        schedule: &schedule,
        x: reference.get("em.x_init")?,
        class: None,
        noise,
    };
    let mut states = Vec::new();
    let _ = walk(&inputs, options, &mut |step| {
        states.push(step.x.shallow_clone());
        ControlFlow::Continue(())
    })?;
    Ok(Tensor::stack(&states, 0))
}

/// The noise of a reference run, one row a step.
struct Recorded<'r, 'a> {
    name: String,
    reference: &'r Reference<'a>,
}

impl StepNoise for Recorded<'_, '_> {
    fn draw(&self, step: usize, _: &Tensor) -> Result<Tensor, DiffusionError> {
        let noise = self.reference.get(&self.name)?;
        if step < noise.size()[0] as usize {
            return Ok(noise.get(step as i64));
        }
        Err(unusable(&self.name, format!("has no noise for step {step}")))
    }
}
