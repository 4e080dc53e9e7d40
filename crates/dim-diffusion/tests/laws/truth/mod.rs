//! Samplers against the truth: for Gaussian data the exact denoiser, the exact flow and the exact distribution at
//! every time are known.
//!
//! The exact denoiser is affine, so whatever a sampler does to a pixel is `x ↦ gain x + offset + Σ spread_j noise_j`.
//! Three kinds of runs reveal these numbers, and with them the exact mean and variance that the sampler produces,
//! without drawing a single sample.

mod moments;
mod ode;

use std::ops::ControlFlow;

use dim_diffusion::{
    Denoiser, DiffusionError, Prediction,
    noise::StepNoise,
    sampler::{Sampler, SamplerInputs},
    schedule::{NoiseSchedule, RectifiedFlow, ScaledLinear, VpSde},
};
use tch::{Device, Kind, Tensor};

const MEAN: f64 = 0.7;
const DEVIATION: f64 = 0.4;
const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

struct Problem {
    name: &'static str,
    schedule: Box<dyn NoiseSchedule>,
    /// The schedule's time that a network time stands for.
    time: fn(f64) -> f64,
    prediction: Prediction,
    mean: f64,
    deviation: f64,
}

impl Problem {
    fn new(name: &'static str, schedule: impl NoiseSchedule + 'static, time: fn(f64) -> f64) -> Self {
        let prediction = Prediction::Epsilon;
        Self { name, schedule: Box::new(schedule), time, prediction, mean: MEAN, deviation: DEVIATION }
    }
}

/// On schedules that preserve variance, with networks that predict the noise.
fn problems() -> [Problem; 2] {
    [
        Problem::new("scaled linear", ScaledLinear::stable_diffusion(), |time| time / 1000.0),
        Problem::new("VP-SDE", VpSde::cifar10(), |time| time / 999.0),
    ]
}

/// With networks that predict the velocity of straight paths.
fn flows() -> [Problem; 2] {
    let flow = |shift| RectifiedFlow::new(shift).unwrap();
    let straight = Problem::new("flow", flow(1.0), |time| time / 1000.0);
    // The inverse of sigma = 3 t / (1 + 2 t).
    let shifted = Problem::new("shifted flow", flow(3.0), |time| time / (3000.0 - 2.0 * time));
    [straight, shifted].map(|problem| Problem { prediction: Prediction::Flow, ..problem })
}

/// The exact denoiser of Gaussian data.
struct Exact<'a>(&'a Problem);

impl Denoiser for Exact<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, _: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let Problem { schedule, time, prediction, mean, deviation, .. } = self.0;
        let t = Tensor::from(time(t.to_kind(Kind::Double).double_value(&[0])));
        let (alpha, sigma) = (schedule.alpha(&t), schedule.sigma(&t));
        let variance = alpha.square() * (deviation * deviation) + sigma.square();
        let off = (x_t - &alpha * *mean) / variance;
        let (x_0, noise) = (&off * &alpha * (deviation * deviation) + *mean, off * &sigma);
        Ok(prediction.target(&x_0, &noise, &alpha, &sigma))
    }

    fn prediction(&self) -> Prediction {
        self.0.prediction
    }
}

#[derive(Clone, Copy, Debug)]
struct Gaussian {
    mean: f64,
    variance: f64,
}

/// What a sampler does to a pixel.
struct Response {
    gain: f64,
    offset: f64,
    /// The sum of the squares of `spread_j`.
    spread: f64,
}

/// Noise 1 at step `j` for row `2 + j`, and 0 everywhere else.
struct OneHot;

impl StepNoise for OneHot {
    fn draw(&self, step: usize, like: &Tensor) -> Result<Tensor, DiffusionError> {
        let noise = like.zeros_like();
        let _ = noise.get(2 + step as i64).fill_(1.0);
        Ok(noise)
    }
}

impl Problem {
    /// The distribution of noisy data at time `t`.
    fn at(&self, t: f64) -> Gaussian {
        let t = Tensor::from(t);
        let alpha = self.schedule.alpha(&t).double_value(&[]);
        let sigma = self.schedule.sigma(&t).double_value(&[]);
        Gaussian { mean: alpha * self.mean, variance: (alpha * self.deviation).powi(2) + sigma * sigma }
    }

    /// Where the sampler really starts: no later than there is signal, unless it can do without.
    fn t_start(&self, sampler: &Sampler) -> f64 {
        match sampler {
            Sampler::Flow(_) if self.prediction != Prediction::Epsilon => sampler.t_start(),
            _ => sampler.t_start().min(self.schedule.last_time()),
        }
    }

    /// The state at `t_end` when `sampler` starts from `x`; a last step from there to 0 is left out.
    fn run(&self, sampler: &Sampler, x: &Tensor, noise: &dyn StepNoise) -> Tensor {
        let schedule = self.schedule.as_ref();
        let inputs = SamplerInputs { denoiser: &Exact(self), schedule, x, class: None, noise: Some(noise) };
        let mut at_t_end = x.shallow_clone();
        let _ = sampler
            .sample(&inputs, &mut |step| {
                if step.t >= sampler.t_end() - 1e-9 {
                    at_t_end = step.x.shallow_clone();
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        at_t_end
    }

    fn response(&self, sampler: &Sampler) -> Response {
        let x = Tensor::zeros([2 + sampler.evaluations() as i64, 1, 1, 1], DOUBLE);
        let _ = x.get(1).fill_(1.0);
        let moved = self.run(sampler, &x, &OneHot).view(-1);
        let offset = moved.double_value(&[0]);
        let spread = (moved.slice(0, 2, None, 1) - offset).square().sum(Kind::Double);
        Response { gain: moved.double_value(&[1]) - offset, offset, spread: spread.double_value(&[]) }
    }

    /// How far the sampler's map is from the exact flow of the probability-flow ODE.
    fn flow_error(&self, sampler: &Sampler) -> f64 {
        let (from, to) = (self.at(self.t_start(sampler)), self.at(sampler.t_end()));
        let gain = (to.variance / from.variance).sqrt();
        let offset = to.mean - gain * from.mean;
        let found = self.response(sampler);
        assert_eq!(found.spread, 0.0);
        (found.gain - gain).abs() + (found.offset - offset).abs()
    }

    /// The errors of mean and variance if the sampler starts from the exact distribution.
    fn moment_errors(&self, sampler: &Sampler) -> [f64; 2] {
        let (from, to) = (self.at(self.t_start(sampler)), self.at(sampler.t_end()));
        let found = self.response(sampler).of(from);
        [(found.mean - to.mean).abs(), (found.variance - to.variance).abs()]
    }
}

impl Response {
    fn of(&self, from: Gaussian) -> Gaussian {
        Gaussian {
            mean: self.gain * from.mean + self.offset,
            variance: self.gain * self.gain * from.variance + self.spread,
        }
    }
}

trait Times {
    fn t_start(&self) -> f64;
    fn t_end(&self) -> f64;
}

impl Times for Sampler {
    fn t_start(&self) -> f64 {
        match self {
            Sampler::DpmSolver(options) => options.t_start,
            Sampler::DpmMultistep(options) => options.t_start,
            Sampler::UniPc(options) => options.t_start,
            Sampler::Flow(options) => options.t_start,
            Sampler::Ancestral(options) => options.t_start,
            Sampler::Edm(options) => options.t_start,
            Sampler::Ddim(options) => options.t_start,
            Sampler::EulerMaruyama(options) => options.t_start,
        }
    }

    fn t_end(&self) -> f64 {
        match self {
            Sampler::DpmSolver(options) => options.t_end,
            Sampler::DpmMultistep(options) => options.t_end,
            Sampler::UniPc(options) => options.t_end,
            Sampler::Flow(options) => options.t_end,
            Sampler::Ancestral(options) => options.t_end,
            Sampler::Edm(options) => options.t_end,
            Sampler::Ddim(options) => options.t_end,
            Sampler::EulerMaruyama(options) => options.t_end,
        }
    }
}

/// The order at which errors fall between two numbers of steps.
fn observed_order(steps: [usize; 2], errors: [f64; 2]) -> f64 {
    (errors[0] / errors[1]).ln() / (steps[1] as f64 / steps[0] as f64).ln()
}

fn assert_order(name: &str, order: f64, steps: [usize; 2], error: impl Fn(usize) -> f64) {
    let errors = steps.map(error);
    let observed = observed_order(steps, errors);
    println!("{name}: order {observed:.3}, errors {errors:?}");
    assert!((observed - order).abs() < 0.1, "{name}: order {observed}, errors {errors:?}");
}
