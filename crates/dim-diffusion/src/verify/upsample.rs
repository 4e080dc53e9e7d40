//! Upsampling without training: `ug.m{factor}.*`.

use tch::{Kind, Tensor};

use super::{
    Check,
    closed_form::{ClassNetwork, GaussianDenoiser},
    reference::Reference,
};
use crate::{
    Denoiser, DiffusionError,
    guidance::ClassifierFreeGuidance,
    sampler::{DpmSolverOptions, Parametrization, SamplerInputs, dpm_solver, unobserved},
    schedule::{NoiseSchedule, ScaledLinear},
    upsample::{MatchedTimes, TimeMatching, UpsampleGuidance, UpsampleOptions},
};

/// Steps of the sampled image, and the weight that the class network is guided with: 1 more than the reference's scale.
const STEPS: usize = 12;
const CFG_SCALE: f64 = 4.0;

pub(super) fn upsample(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    for (_, factor) in reference.variants::<usize>("ug.m", ".x") {
        let options = UpsampleOptions { matching: TimeMatching::Published, ..UpsampleOptions::new(factor) };
        let group = format!("ug.m{factor}");
        times(reference, &group, options, checks)?;
        arithmetic(reference, &group, options, checks)?;
        predictions(reference, &group, options, checks)?;
        sampled(reference, &group, options, checks)?;
    }
    Ok(())
}

fn times(
    reference: &Reference<'_>,
    group: &str,
    options: UpsampleOptions,
    checks: &mut Vec<Check>,
) -> Result<(), DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let key = |name: &str| format!("{group}.{name}");
    let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x.shallow_clone());
    let guidance = UpsampleGuidance::new(&network, &schedule, options)?;
    let times = MatchedTimes::new(&schedule, options.factor, options.matching);
    let t = reference.get(&key("t"))?;
    let network_times: Vec<f64> = Vec::<f32>::try_from(schedule.network_time(t))?.into_iter().map(f64::from).collect();
    let each = |f: &dyn Fn(f64) -> f64| Tensor::from_slice(&network_times.iter().map(|&n| f(n)).collect::<Vec<_>>());
    let indices: Vec<usize> = network_times.iter().map(|&n| times.index(n)).collect();
    let shares = |f: fn((f32, f32)) -> f32| {
        Tensor::from_slice(&indices.iter().map(|&index| f(times.shares(index))).collect::<Vec<_>>())
    };
    checks.push(reference.compare_indices(&key("snr_index"), &indices)?);
    checks.push(reference.compare(&key("cum_alpha"), &shares(|(signal, _)| signal))?);
    checks.push(reference.compare(&key("cum_beta"), &shares(|(_, noise)| noise))?);
    checks.push(reference.compare(&key("w_t"), &each(&|n| guidance.weight(n)))?);
    checks.push(reference.compare(&key("P"), &each(&|n| times.at(n).power))?);
    checks.push(reference.compare(&key("tau_each"), &each(&|n| times.at(n).network_time / 1000.0))?);
    let nearest: Vec<usize> = indices.iter().map(|&index| times.nearest_preset(index)).collect();
    checks.push(reference.compare_indices(&key("tau_index"), &nearest)?);
    let presets = times.preset_indices();
    checks.push(reference.compare_indices(&key("preset_snr_index"), &presets)?);
    // The last is infinite.
    let ratios: Vec<f32> = presets[..presets.len() - 1].iter().map(|&index| times.ratio(index)).collect();
    checks.push(reference.compare_relatively(&key("preset_snr_without_last"), &Tensor::from_slice(&ratios))?);
    Ok(())
}

fn arithmetic(
    reference: &Reference<'_>,
    group: &str,
    options: UpsampleOptions,
    checks: &mut Vec<Check>,
) -> Result<(), DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let key = |name: &str| format!("{group}.{name}");
    let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x.shallow_clone());
    let guidance = UpsampleGuidance::new(&network, &schedule, options)?;
    checks.push(reference.compare(&key("resized_x"), &guidance.shrunk(reference.get(&key("x"))?)?)?);
    let (high, low) = (reference.get(&key("pred_high"))?, reference.get(&key("pred_low"))?);
    checks.push(reference.compare(&key("upsample_guidance"), &guidance.correction(high, low)?)?);
    Ok(())
}

fn predictions(
    reference: &Reference<'_>,
    group: &str,
    options: UpsampleOptions,
    checks: &mut Vec<Check>,
) -> Result<(), DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let network = ClassNetwork { table: reference.get("cfg.table")? };
    let guided = ClassifierFreeGuidance::new(&network, CFG_SCALE)?;
    let guidance = UpsampleGuidance::new(&guided, &schedule, options)?;
    let x = reference.get(&format!("{group}.x"))?;
    let class = reference.get("cfg.y")?.f_narrow(0, 0, x.size()[0])?;
    for (name, t) in reference.variants::<f32>(&format!("{group}.ufg_out."), "") {
        let network_time = schedule.network_time(&Tensor::full([x.size()[0]], f64::from(t), (Kind::Float, x.device())));
        checks.push(reference.compare(name, &guidance.predict(x, &network_time, Some(&class))?)?);
    }
    Ok(())
}

fn sampled(
    reference: &Reference<'_>,
    group: &str,
    options: UpsampleOptions,
    checks: &mut Vec<Check>,
) -> Result<(), DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let (mean, deviation) = (reference.get("gauss.mu")?, reference.number("gauss.s")?);
    let gaussian = GaussianDenoiser::new(&schedule, 1000.0, mean, deviation);
    let guidance = UpsampleGuidance::new(&gaussian, &schedule, options)?;
    let x = reference.get(&format!("{group}.x"))?.f_narrow(0, 0, 1)?;
    let inputs = SamplerInputs { denoiser: &guidance, schedule: &schedule, x: &x, class: None, noise: None };
    let options = DpmSolverOptions { steps: STEPS, parametrization: Parametrization::Noise, ..Default::default() };
    let sampled = dpm_solver(&inputs, &options, &mut unobserved)?;
    checks.push(reference.compare(&format!("{group}.sampled_{STEPS}"), &sampled)?);
    Ok(())
}
