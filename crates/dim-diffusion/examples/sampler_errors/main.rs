//! The table of `docs/diffusion.md`: how far each sampler is from the truth, by calls of the network.
//!
//! `cargo run -p dim-diffusion --example sampler_errors` prints it; with a path behind `--` it also draws the figure of the
//! documentation, `docs/images/sampler-errors.svg`. Pixels are independent, `N(0.7, 0.4²)`, so the exact denoiser and the
//! exact flow are known. The exact denoiser is affine, and so is what a deterministic sampler makes of it; the error is the distance of its image
//! of a standard normal pixel from the exact one, in the root of the mean square.

mod plot;

use std::process::ExitCode;

use dim_diffusion::{
    DiffusionError,
    sampler::{
        DdimOptions, DpmMultistepOptions, DpmSolverOptions, EdmOptions, FlowOptions, Sampler, SamplerInputs, Spacing,
        UniPcOptions, unobserved,
    },
    schedule::{NoiseSchedule, ScaledLinear},
    verify::GaussianDenoiser,
};
use tch::Tensor;

use plot::{Series, svg};

const MEAN: f64 = 0.7;
const DEVIATION: f64 = 0.4;
const CALLS: [usize; 4] = [5, 10, 20, 50];
const T_END: f64 = 1e-3;

fn main() -> ExitCode {
    let result = errors().map_err(|error| error.to_string()).and_then(|series| {
        print!("{}", table(&series));
        match std::env::args_os().nth(1) {
            Some(path) => std::fs::write(path, svg(&CALLS, &series)).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The samplers, for a number of calls.
fn samplers(calls: usize) -> Vec<(&'static str, Sampler)> {
    let dpm = |order| Sampler::DpmSolver(DpmSolverOptions { steps: calls, order, ..Default::default() });
    let unipc = |order| Sampler::UniPc(UniPcOptions { steps: calls, order, ..Default::default() });
    let in_time = DpmMultistepOptions { steps: calls, spacing: Spacing::Time, ..Default::default() };
    vec![
        ("`ddim`", Sampler::Ddim(DdimOptions { steps: calls, ..Default::default() })),
        ("`dpm++`, order 2", dpm(2)),
        ("`dpm++`, order 3", dpm(3)),
        ("`dpm++2m`, times even in time", Sampler::DpmMultistep(in_time)),
        ("`dpm++2m`", Sampler::DpmMultistep(DpmMultistepOptions { steps: calls, ..Default::default() })),
        ("`unipc`", unipc(2)),
        ("`unipc`, order 3", unipc(3)),
        ("`euler`", Sampler::Edm(EdmOptions { steps: calls, order: 1, ..Default::default() })),
        ("`heun`", Sampler::Edm(EdmOptions { steps: calls / 2, ..Default::default() })),
        ("`flow-euler`", Sampler::Flow(FlowOptions { steps: calls, t_end: T_END, ..Default::default() })),
        ("`flow-heun`", Sampler::Flow(FlowOptions { steps: calls / 2, order: 2, t_end: T_END, ..Default::default() })),
    ]
}

/// The errors of every sampler at every number of calls.
fn errors() -> Result<Vec<Series>, DiffusionError> {
    let by_calls: Vec<Vec<(&'static str, Sampler)>> = CALLS.map(samplers).into();
    let series = |row: usize| {
        let errors = by_calls.iter().map(|samplers| error(&samplers[row].1)).collect::<Result<_, _>>()?;
        Ok(Series { name: by_calls[0][row].0, errors })
    };
    (0..by_calls[0].len()).map(series).collect()
}

fn table(series: &[Series]) -> String {
    let columns = CALLS.map(|calls| format!(" {calls} calls |"));
    let mut text = format!("| sampler |{}\n| --- |{}\n", columns.concat(), " --- |".repeat(CALLS.len()));
    for Series { name, errors } in series {
        let cells: String = errors.iter().map(|error| format!(" {error:.1e} |")).collect();
        text += &format!("| {name} |{cells}\n");
    }
    text
}

/// How far the sampler's map of a pixel is from the exact flow's.
fn error(sampler: &Sampler) -> Result<f64, DiffusionError> {
    let schedule = ScaledLinear::stable_diffusion();
    let denoiser = GaussianDenoiser::new(&schedule, 1000.0, &Tensor::from_slice(&[MEAN]), DEVIATION);
    let x = Tensor::from_slice(&[0.0, 1.0]).view([2, 1, 1, 1]);
    let inputs = SamplerInputs { denoiser: &denoiser, schedule: &schedule, x: &x, class: None, noise: None };
    let image = sampler.sample(&inputs, &mut unobserved)?;
    let (at_0, at_1) = (image.double_value(&[0, 0, 0, 0]), image.double_value(&[1, 0, 0, 0]));

    let at = |t: f64| {
        let alpha_bar = schedule.alpha_bar(&Tensor::from(t)).double_value(&[]);
        (alpha_bar.sqrt() * MEAN, (alpha_bar * DEVIATION * DEVIATION + 1.0 - alpha_bar).sqrt())
    };
    let ((mean_start, deviation_start), (mean_end, deviation_end)) = (at(1.0), at(T_END));
    let gain = deviation_end / deviation_start;
    let offset = mean_end - gain * mean_start;
    Ok((at_0 - offset).hypot(at_1 - at_0 - gain))
}
