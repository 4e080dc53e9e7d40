//! Training: noising and loss.

use tch::{Kind, Tensor};

use super::{Check, reference::Reference};
use crate::{
    DiffusionError,
    objective::{LossWeight, NoisyBatch, Objective, ObjectiveOptions, denoising_loss},
    schedule::{ScaledLinear, TrainingTimes, VpSde},
};

/// Latent models, in f32 and in bf16: `train.*`.
pub(super) fn latent(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let exact = objective(false)?;
    let rounding = objective(true)?;
    const ROUNDED: &str = "train.n_as_bf16_1_to_1000";
    if reference.has(ROUNDED) {
        let steps: Vec<usize> = (1..=schedule.steps()).collect();
        let times = schedule.training_times_at(&steps)?;
        checks.push(reference.compare(ROUNDED, &rounding.time_told(&times.network_time))?);
    }
    if !reference.has("train.x0") {
        return Ok(());
    }
    let x_0 = reference.get("train.x0")?;
    let times = schedule.training_times_at(&reference.indices("train.n_int")?)?;

    let batch = noised(&exact, &times, x_0, reference.get("train.f32.eps")?)?;
    checks.push(reference.compare("train.f32.xn", &batch.x_t)?);
    checks.push(reference.compare("train.f32.n_passed_to_net", &batch.t)?);
    let network = |x_t: &Tensor, t: &Tensor, _: Option<&Tensor>| Ok(x_t * 0.3 + t.view([-1, 1, 1, 1]) / 1000.0);
    let loss = denoising_loss(&network, &batch, LossWeight::Uniform)?;
    checks.push(reference.compare("train.lsimple_per_sample", &loss.per_sample)?);

    let bf16 = |x: &Tensor| x.to_kind(Kind::BFloat16);
    let batch = noised(&rounding, &times, &bf16(x_0), &bf16(reference.get("train.bf16.eps")?))?;
    checks.push(reference.compare("train.bf16.xn", &batch.x_t)?);
    checks.push(reference.compare("train.bf16.n_passed_to_net", &batch.t)?);
    Ok(())
}

/// CIFAR-10 models: `vpsde.train.*`.
pub(super) fn vp_sde(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    if reference.has("vpsde.train.x0") {
        let times = VpSde::cifar10().training_times_at(reference.get("vpsde.train.t")?);
        let x_0 = reference.get("vpsde.train.x0")?;
        let x_t = times.noised(x_0, reference.get("vpsde.train.eps")?)?;
        checks.push(reference.compare("vpsde.train.xt", &x_t)?);
    }
    Ok(())
}

fn objective(round_time_to_bf16: bool) -> Result<Objective, DiffusionError> {
    Objective::new(ObjectiveOptions { round_time_to_bf16, ..Default::default() }, None, 0)
}

fn noised(
    objective: &Objective,
    times: &TrainingTimes,
    x_0: &Tensor,
    noise: &Tensor,
) -> Result<NoisyBatch, DiffusionError> {
    Ok(NoisyBatch {
        x_t: times.noised(x_0, noise)?,
        t: objective.time_told(&times.network_time),
        x_0: x_0.shallow_clone(),
        noise: noise.shallow_clone(),
        alpha: times.alpha.shallow_clone(),
        sigma: times.sigma.shallow_clone(),
        class: None,
    })
}
