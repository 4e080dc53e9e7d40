//! Tables of the schedules, interpolation between them, and lists of times and orders.

use tch::{Kind, Tensor};

use super::{
    Check,
    reference::{Reference, unusable},
};
use crate::{
    DiffusionError,
    sampler::{DpmSolverOptions, uniform_times},
    schedule::{NoiseSchedule, ScaledLinear, VpSde},
};

/// The exact tables: `sd.*`.
pub(super) fn stable_diffusion(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let alpha_bar = Tensor::from_slice(schedule.alpha_bar_table());
    let noise_bar = 1.0 - &alpha_bar;
    if reference.has("sd.betas.f64") {
        checks.push(reference.compare("sd.betas.f64", &Tensor::from_slice(schedule.betas()))?);
        checks.push(reference.compare("sd.cum_alphas.f64", &alpha_bar)?);
        checks.push(reference.compare("sd.cum_betas.f64", &noise_bar)?);
        let snr = (&alpha_bar / &noise_bar).slice(0, 1, None, 1);
        checks.push(reference.compare_relatively("sd.snr_from1.f64", &snr)?);
    }
    const PAIRS: &str = "sd.skip_pairs";
    if reference.has(PAIRS) {
        let indices = reference.indices(PAIRS)?;
        let pairs: Vec<(usize, usize)> = indices.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        if let Some((s, t)) = pairs.iter().find(|(s, t)| s >= t || *t > schedule.steps()) {
            return Err(unusable(PAIRS, format!("{s} and {t} are not two rising steps")));
        }
        let per_pair = |f: &dyn Fn(usize, usize) -> f64| {
            Tensor::from_slice(&pairs.iter().map(|&(s, t)| f(s, t)).collect::<Vec<_>>())
        };
        let between = |s, t| schedule.alpha_bar_between(s, t);
        checks.push(reference.compare("sd.skip_alpha.f64", &per_pair(&between))?);
        checks.push(reference.compare("sd.skip_beta.f64", &per_pair(&|s, t| 1.0 - between(s, t)))?);
        let posterior = per_pair(&|s, t| schedule.posterior_variance(s, t));
        checks.push(reference.compare("sd.tilde_beta.f64", &posterior)?);
    }
    Ok(())
}

/// The continuous interpolation: `ns.*`.
pub(super) fn interpolation(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    if !reference.has("ns.t") {
        return Ok(());
    }
    let schedule = ScaledLinear::stable_diffusion();
    let (times, log_alpha) = schedule.knots();
    checks.push(reference.compare("ns.t_discrete", &times)?);
    checks.push(reference.compare("ns.log_alpha_discrete", &log_alpha)?);

    let t = reference.get("ns.t")?;
    checks.push(reference.compare("ns.log_mean_coeff", &schedule.log_alpha(t))?);
    checks.push(reference.compare("ns.alpha", &schedule.alpha(t))?);
    checks.push(reference.compare("ns.std", &schedule.sigma(t))?);
    let half_log_snr = schedule.half_log_snr(t);
    checks.push(reference.compare("ns.lambda", &half_log_snr)?);
    let inverse = schedule.time_at_half_log_snr(&half_log_snr);
    checks.push(reference.compare("ns.inverse_lambda", &inverse)?);

    let t = t.to_kind(Kind::Double);
    checks.push(reference.compare("ns.f64.log_mean_coeff", &schedule.log_alpha(&t))?);
    checks.push(reference.compare("ns.f64.lambda", &schedule.half_log_snr(&t))?);
    Ok(())
}

/// The SDE's closed forms: `vpsde.*`.
pub(super) fn vp_sde(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    if !reference.has("vpsde.t") {
        return Ok(());
    }
    let schedule = VpSde::cifar10();
    let t = reference.get("vpsde.t")?;
    let alpha_bar = schedule.alpha_bar(t);
    let noise_bar = 1.0 - &alpha_bar;
    checks.push(reference.compare("vpsde.beta_t", &schedule.beta(t))?);
    checks.push(reference.compare("vpsde.cum_alpha", &alpha_bar)?);
    checks.push(reference.compare("vpsde.cum_beta", &noise_bar)?);
    checks.push(reference.compare("vpsde.sqrt_cum_alpha", &schedule.alpha(t))?);
    checks.push(reference.compare("vpsde.sqrt_cum_beta", &schedule.sigma(t))?);
    // The first time is 0, where the ratios are not finite.
    let noise_to_signal = schedule.noise_to_signal(&t.slice(0, 1, None, 1));
    checks.push(reference.compare_relatively("vpsde.nsr_from1", &noise_to_signal)?);
    checks.push(reference.compare_relatively("vpsde.snr_from1", &noise_to_signal.reciprocal())?);
    Ok(())
}

/// Uniform times and single-step orders: `time_steps_uniform.{n}`, `fast_orders.{n}`.
pub(super) fn grids(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    for (name, steps) in reference.variants::<usize>("time_steps_uniform.", "") {
        checks.push(reference.compare(name, &uniform_times(1.0, 1e-3, steps, Kind::Float))?);
    }
    for (name, steps) in reference.variants::<usize>("fast_orders.", "") {
        let options = DpmSolverOptions { steps, ..Default::default() };
        checks.push(reference.compare_indices(name, &options.orders()?)?);
    }
    Ok(())
}
