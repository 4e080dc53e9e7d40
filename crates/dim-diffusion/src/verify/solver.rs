//! DPM-Solver on Gaussian data: `dpmpp.{n}.*` and `dpm_noise.{n}.*`.

use std::ops::ControlFlow;

use tch::{Kind, Tensor};

use super::{
    Check,
    closed_form::{Call, GaussianDenoiser, Recorder},
    reference::Reference,
};
use crate::{
    DiffusionError,
    sampler::{DpmSolverOptions, Parametrization, SamplerInputs, dpm_solver as solve, inner_fractions, uniform_times},
    schedule::{NoiseSchedule, ScaledLinear},
};

pub(super) fn dpm_solver(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    for (group, parametrization) in [("dpmpp.", Parametrization::Data), ("dpm_noise.", Parametrization::Noise)] {
        for (_, steps) in reference.variants::<usize>(group, ".x_traj") {
            let options = DpmSolverOptions { steps, parametrization, ..Default::default() };
            run(reference, &format!("{group}{steps}"), &options, checks)?;
        }
    }
    Ok(())
}

fn run(
    reference: &Reference<'_>,
    group: &str,
    options: &DpmSolverOptions,
    checks: &mut Vec<Check>,
) -> Result<(), DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let time_scale = schedule.steps() as f64;
    let (mean, deviation) = (reference.get("gauss.mu")?, reference.number("gauss.s")?);
    let gaussian = GaussianDenoiser::new(&schedule, time_scale, mean, deviation);
    let recorder = Recorder::new(&gaussian);
    let inputs = SamplerInputs {
        denoiser: &recorder,
        schedule: &schedule,
        x: reference.get("gauss.x_T")?,
        class: None,
        noise: None,
    };
    let (mut states, mut times) = (Vec::new(), Vec::new());
    let _ = solve(&inputs, options, &mut |step| {
        states.push(step.x.shallow_clone());
        times.push(step.t as f32);
        ControlFlow::Continue(())
    })?;
    let calls = recorder.into_calls();

    let mut compare = |key: &str, actual: &Tensor| {
        checks.push(reference.compare(&format!("{group}.{key}"), actual)?);
        Ok::<_, DiffusionError>(())
    };
    compare("x_traj", &Tensor::stack(&states, 0))?;
    compare("t_outer", &Tensor::from_slice(&times))?;
    // The reference holds the schedule's times of the calls, not the network's.
    let call_times: Vec<f32> = calls.iter().map(|call| (call.t / time_scale) as f32).collect();
    compare("model_t", &Tensor::from_slice(&call_times))?;
    compare("model_x_first_last", &of_some_calls(&calls, |call| &call.x_t))?;
    compare("model_eps_first_last", &of_some_calls(&calls, |call| &call.noise))?;
    let orders = options.orders()?;
    compare("r1r2", &fractions(&schedule, options, &orders))?;
    checks.push(reference.compare_indices(&format!("{group}.orders"), &orders)?);
    Ok(())
}

/// Calls 1, 2 and the last.
fn of_some_calls(calls: &[Call], part: impl Fn(&Call) -> &Tensor) -> Tensor {
    let some = [0, 1.min(calls.len() - 1), calls.len() - 1];
    Tensor::stack(&some.map(|i| part(&calls[i])), 0)
}

/// `r1` and `r2` of every step, 0 where a step has no such node.
fn fractions(schedule: &ScaledLinear, options: &DpmSolverOptions, orders: &[usize]) -> Tensor {
    let times = uniform_times(options.t_start, options.t_end, options.steps, Kind::Float);
    let mut start = 0;
    let mut rows = Vec::new();
    for &order in orders {
        let nodes: Vec<Tensor> =
            (start..=start + order).map(|node| schedule.half_log_snr(&times.get(node as i64))).collect();
        let mut row = [0.0; 2];
        for (place, fraction) in row.iter_mut().zip(inner_fractions(&nodes)) {
            *place = fraction.double_value(&[]) as f32;
        }
        rows.push(row);
        start += order;
    }
    Tensor::from_slice2(&rows)
}
