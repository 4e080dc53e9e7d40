//! Samplers against the truth: for Gaussian data the exact denoiser, the exact flow and the exact distribution at
//! every time are known.
//!
//! The exact denoiser is affine, so whatever a sampler does to a pixel is `x ↦ gain x + offset + Σ spread_j noise_j`.
//! Three kinds of runs reveal these numbers, and with them the exact mean and variance that the sampler produces,
//! without drawing a single sample.

use std::ops::ControlFlow;

use dim_diffusion::{
    Denoiser, DiffusionError, Prediction,
    noise::{NoiseStream, SampleNoise, StepNoise},
    sampler::{
        AncestralOptions, DdimOptions, DpmMultistepOptions, DpmSolverOptions, EdmOptions, Equation,
        EulerMaruyamaOptions, FlowOptions, Parametrization, Sampler, SamplerInputs, Spacing, StepVariance,
        UniPcOptions, Weighting,
    },
    schedule::{NoiseSchedule, RectifiedFlow, ScaledLinear, VpSde},
};
use tch::{Device, Kind, Tensor};

use crate::{distance, prediction::KINDS};

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

#[test]
fn dpm_solver_errors_fall_at_its_order() {
    for problem in problems() {
        for parametrization in [Parametrization::Data, Parametrization::Noise] {
            // Numbers of evaluations after which the remainder's step does not lower the order.
            for (order, steps) in [(1, [400, 800]), (2, [200, 400]), (3, [602, 1202])] {
                let name = format!("{}, {parametrization:?}, {order}", problem.name);
                assert_order(&name, order as f64, steps, |steps| {
                    problem.flow_error(&Sampler::DpmSolver(DpmSolverOptions {
                        steps,
                        order,
                        parametrization,
                        t_end: 0.05,
                        ..Default::default()
                    }))
                });
            }
        }
    }
}

#[test]
fn ddim_and_the_euler_ode_are_of_first_order() {
    for problem in problems() {
        assert_order(&format!("{}, DDIM", problem.name), 1.0, [400, 800], |steps| {
            let options = DdimOptions { steps, t_end: 0.05, ..Default::default() };
            problem.flow_error(&Sampler::Ddim(options))
        });
        assert_order(&format!("{}, Euler", problem.name), 1.0, [400, 800], |steps| {
            let equation = Equation::ProbabilityFlow;
            let options = EulerMaruyamaOptions { steps, equation, t_end: 0.05, ..Default::default() };
            problem.flow_error(&Sampler::EulerMaruyama(options))
        });
    }
}

#[test]
fn multistep_and_edm_errors_fall_at_their_order() {
    for problem in problems() {
        for spacing in [Spacing::Time, Spacing::LogSnr, Spacing::Edm { rho: 7.0 }] {
            for order in [1, 2] {
                let name = format!("{}, multistep {order}, {spacing:?}", problem.name);
                assert_order(&name, order as f64, [400, 800], |steps| {
                    let options = DpmMultistepOptions { steps, order, spacing, t_end: 0.05, ..Default::default() };
                    problem.flow_error(&Sampler::DpmMultistep(options))
                });
            }
        }
        for order in [1, 2] {
            assert_order(&format!("{}, EDM {order}", problem.name), order as f64, [200, 400], |steps| {
                let options = EdmOptions { steps, order, t_end: 0.05, ..Default::default() };
                problem.flow_error(&Sampler::Edm(options))
            });
        }
    }
}

#[test]
fn unipc_errors_fall_faster_than_its_order() {
    for problem in problems().into_iter().chain(flows()) {
        for weighting in [Weighting::Bh1, Weighting::Bh2] {
            let error = |steps, order| {
                let (lower_order_final, t_start) = (false, 0.9);
                let options = UniPcOptions {
                    steps,
                    order,
                    weighting,
                    lower_order_final,
                    t_start,
                    t_end: 0.05,
                    ..Default::default()
                };
                problem.flow_error(&Sampler::UniPc(options))
            };
            // The corrector adds one order.
            for (order, steps) in [(1, [200, 400]), (2, [100, 200])] {
                let name = format!("{}, UniPC {order}, {weighting:?}", problem.name);
                assert_order(&name, order as f64 + 1.0, steps, |steps| error(steps, order));
            }
            // With a third image, too, but for the first step, which has one image and leaves an error of third order.
            let errors = [100, 200].map(|steps| error(steps, 3));
            let observed = observed_order([100, 200], errors);
            println!("{}, UniPC 3, {weighting:?}: order {observed:.3}, errors {errors:?}", problem.name);
            assert!(observed > 2.9 && errors[1] < 0.1 * error(200, 2), "order {observed}, errors {errors:?}");
        }
    }
}

#[test]
fn flow_errors_fall_at_their_order_on_every_schedule() {
    for problem in problems().into_iter().chain(flows()) {
        for (order, steps) in [(1, [400, 800]), (2, [200, 400])] {
            for t_end in [0.05, 0.0] {
                let name = format!("{}, flow {order} to {t_end}", problem.name);
                if t_end == 0.0 && problem.prediction != Prediction::Flow {
                    continue; // interpolated schedules have no numbers there to compare with
                }
                assert_order(&name, order as f64, steps, |steps| {
                    problem.flow_error(&Sampler::Flow(FlowOptions { steps, order, t_end, ..Default::default() }))
                });
            }
        }
    }
}

#[test]
fn straight_paths_of_one_image_need_one_step() {
    let one_image = |problem: Problem| Problem { deviation: 0.0, ..problem };
    for problem in flows().map(one_image) {
        let found = problem.response(&Sampler::Flow(FlowOptions { steps: 1, ..Default::default() }));
        assert!((found.offset - MEAN).abs() < 1e-14 && found.gain.abs() < 1e-14, "{} {}", found.offset, found.gain);
    }
}

#[test]
fn ancestral_sampling_is_exact_for_the_data_that_its_variance_is_meant_for() {
    for (variance, deviation) in [(StepVariance::Posterior, 0.0), (StepVariance::Added, 1.0)] {
        for problem in problems() {
            let problem = Problem { deviation, ..problem };
            for steps in [1, 2, 7] {
                let options = AncestralOptions { steps, variance, ..Default::default() };
                let [mean, variance] = problem.moment_errors(&Sampler::Ancestral(options));
                assert!(mean < 1e-12 && variance < 1e-12, "{}, {options:?}: {mean} {variance}", problem.name);
            }
        }
    }
}

#[test]
fn ancestral_sampling_reaches_the_variance_at_first_order() {
    for problem in problems().into_iter().chain(flows()) {
        for variance in [StepVariance::Posterior, StepVariance::Added] {
            let name = format!("{}, ancestral, {variance:?}", problem.name);
            assert_order(&name, 1.0, [400, 800], |steps| {
                let options = AncestralOptions { steps, variance, t_start: 0.9, t_end: 0.05, ..Default::default() };
                problem.moment_errors(&Sampler::Ancestral(options))[1]
            });
        }
    }
}

#[test]
fn stochastic_multistep_reaches_mean_and_variance_at_its_order() {
    for problem in problems() {
        for (moment, name) in ["mean", "variance"].iter().enumerate() {
            let errors = |order| {
                [100, 200].map(|steps| {
                    let options =
                        DpmMultistepOptions { steps, order, stochastic: true, t_end: 0.05, ..Default::default() };
                    problem.moment_errors(&Sampler::DpmMultistep(options))[moment]
                })
            };
            let (first, second) = (errors(1), errors(2));
            println!("{}, {name}: {first:?} {second:?}", problem.name);
            // The mean is carried without error where the data's is.
            assert!(second[1] < 1e-12 || second[1] < 0.3 * second[0], "{}, {name}: {second:?}", problem.name);
            assert!(second[1] <= first[1], "{}, {name}: {second:?} {first:?}", problem.name);
        }
    }
}

#[test]
fn stochastic_samplers_reach_mean_and_variance_at_first_order() {
    for problem in problems() {
        for eta in [0.5, 1.0] {
            // The mean is carried without error: at the mean there is no noise to predict.
            let name = format!("{}, DDIM with eta {eta}, variance", problem.name);
            assert_order(&name, 1.0, [200, 400], |steps| {
                let options = DdimOptions { steps, eta, t_end: 0.05, ..Default::default() };
                let [mean, variance] = problem.moment_errors(&Sampler::Ddim(options));
                assert!(mean < 1e-13, "{mean}");
                variance
            });
        }
        for (moment, name) in ["mean", "variance"].iter().enumerate() {
            let name = format!("{}, Euler–Maruyama, {name}", problem.name);
            assert_order(&name, 1.0, [200, 400], |steps| {
                let options = EulerMaruyamaOptions { steps, t_end: 0.05, ..Default::default() };
                problem.moment_errors(&Sampler::EulerMaruyama(options))[moment]
            });
        }
    }
}

#[test]
fn samplers_of_noise_levels_keep_their_order_on_straight_paths() {
    for problem in flows() {
        // From 0.9: closer to pure noise the log SNR changes so fast that more steps are needed than a test has time for.
        let ends = |steps, order| DpmSolverOptions { steps, order, t_start: 0.9, t_end: 0.05, ..Default::default() };
        for (order, steps) in [(1, [400, 800]), (2, [200, 400]), (3, [602, 1202])] {
            for parametrization in [Parametrization::Data, Parametrization::Noise] {
                let name = format!("{}, DPM-Solver {order}, {parametrization:?}", problem.name);
                assert_order(&name, order as f64, steps, |steps| {
                    let options = DpmSolverOptions { parametrization, ..ends(steps, order) };
                    problem.flow_error(&Sampler::DpmSolver(options))
                });
            }
        }
        for order in [1, 2] {
            assert_order(&format!("{}, multistep {order}", problem.name), order as f64, [400, 800], |steps| {
                let options = DpmMultistepOptions { steps, order, t_end: 0.05, ..Default::default() };
                problem.flow_error(&Sampler::DpmMultistep(options))
            });
            assert_order(&format!("{}, EDM {order}", problem.name), order as f64, [400, 800], |steps| {
                let options = EdmOptions { steps, order, t_end: 0.05, ..Default::default() };
                problem.flow_error(&Sampler::Edm(options))
            });
        }
        assert_order(&format!("{}, DDIM", problem.name), 1.0, [400, 800], |steps| {
            problem.flow_error(&Sampler::Ddim(DdimOptions { steps, t_end: 0.05, ..Default::default() }))
        });
    }
}

#[test]
fn stochastic_samplers_reach_mean_and_variance_on_straight_paths() {
    for problem in flows() {
        let name = |sampler: &str| format!("{}, {sampler}, variance", problem.name);
        assert_order(&name("DDIM"), 1.0, [200, 400], |steps| {
            let options = DdimOptions { steps, eta: 1.0, t_end: 0.05, ..Default::default() };
            problem.moment_errors(&Sampler::Ddim(options))[1]
        });
        // The image fades infinitely fast at the start of straight paths, where explicit steps are not stable.
        assert_order(&name("Euler–Maruyama"), 1.0, [400, 800], |steps| {
            let options = EulerMaruyamaOptions { steps, t_start: 0.9, t_end: 0.05, ..Default::default() };
            problem.moment_errors(&Sampler::EulerMaruyama(options))[1]
        });
    }
}

#[test]
fn what_the_network_predicts_makes_no_difference() {
    let samplers = [
        Sampler::DpmSolver(DpmSolverOptions { steps: 11, ..Default::default() }),
        Sampler::DpmMultistep(DpmMultistepOptions { steps: 11, stochastic: true, ..Default::default() }),
        Sampler::Edm(EdmOptions { steps: 7, ..Default::default() }),
        Sampler::UniPc(UniPcOptions { steps: 11, order: 3, ..Default::default() }),
        // Not from pure noise, of which predicted noise tells no image.
        Sampler::Flow(FlowOptions { steps: 7, order: 2, t_start: 0.9, ..Default::default() }),
        Sampler::Ancestral(AncestralOptions { steps: 11, ..Default::default() }),
        Sampler::Ddim(DdimOptions { steps: 11, eta: 0.5, ..Default::default() }),
        Sampler::EulerMaruyama(EulerMaruyamaOptions { steps: 11, t_start: 0.9, ..Default::default() }),
    ];
    let x = NoiseStream::new(1, "start").normal(&[0, 1], &[1, 4, 4], Device::Cpu).unwrap().to_kind(Kind::Double);
    let noise = SampleNoise::new(NoiseStream::new(1, "steps"), vec![0, 1]);
    for mut problem in problems().into_iter().chain(flows()) {
        for sampler in &samplers {
            let expected = problem.run(sampler, &x, &noise);
            for prediction in KINDS {
                problem.prediction = prediction;
                let found = problem.run(sampler, &x, &noise);
                let error = distance(&found, &expected);
                assert!(error < 1e-9, "{}, {prediction}, {sampler:?}: {error}", problem.name);
            }
        }
    }
}

#[test]
fn default_samplers_reproduce_mean_and_variance() {
    let data = DpmSolverOptions::default();
    let noise = DpmSolverOptions { parametrization: Parametrization::Noise, ..data };
    let ancestral = DdimOptions { eta: 1.0, ..Default::default() };
    // How far 50 uniform times (1000 for Euler–Maruyama) leave the variance, 0.16, off: the last step, from t = 0.02
    // or 0.04 straight to 0.001, sees it all. The multistep solver takes 25 calls, UniPC 20, ancestral sampling 250, Heun's method 36, of
    // which the VP-SDE, whose noise is ten times as large at the start, leaves fewer for the end.
    let samplers = [
        (Sampler::DpmSolver(data), 0.007),
        (Sampler::DpmSolver(noise), 0.021),
        (Sampler::Ddim(DdimOptions::default()), 0.021),
        (Sampler::DpmMultistep(DpmMultistepOptions::default()), 0.003),
        (Sampler::Edm(EdmOptions::default()), 0.021),
        (Sampler::Ddim(ancestral), 0.04),
        (Sampler::UniPc(UniPcOptions::default()), 0.003),
        (Sampler::Ancestral(AncestralOptions::default()), 0.012),
        (Sampler::EulerMaruyama(EulerMaruyamaOptions::default()), 0.001),
    ];
    for problem in problems() {
        for (sampler, tolerance) in &samplers {
            let [mean, variance] = problem.moment_errors(sampler);
            println!("{}, {sampler:?}: mean {mean:.1e}, variance {variance:.1e}", problem.name);
            assert!(mean < 5e-4, "{sampler:?}: {mean}");
            assert!(variance < *tolerance, "{sampler:?}: {variance}");
        }
    }
}

#[test]
fn samples_drawn_with_real_noise_have_the_predicted_mean_and_variance() {
    let (samples, shape) = (200u64, [1, 20, 20]);
    let indices: Vec<u64> = (0..samples).collect();
    let x = NoiseStream::new(11, "start").normal(&indices, &shape, Device::Cpu).unwrap();
    let noise = SampleNoise::new(NoiseStream::new(11, "steps"), indices);
    let count = x.numel() as f64;
    for problem in problems() {
        for sampler in [
            Sampler::EulerMaruyama(EulerMaruyamaOptions { steps: 60, ..Default::default() }),
            Sampler::Ddim(DdimOptions { steps: 30, eta: 1.0, ..Default::default() }),
            Sampler::Ddim(DdimOptions { steps: 30, eta: 0.5, ..Default::default() }),
            Sampler::DpmSolver(DpmSolverOptions { steps: 20, ..Default::default() }),
            Sampler::DpmMultistep(DpmMultistepOptions { steps: 30, stochastic: true, ..Default::default() }),
            Sampler::Ancestral(AncestralOptions { steps: 30, ..Default::default() }),
        ] {
            let predicted = problem.response(&sampler).of(Gaussian { mean: 0.0, variance: 1.0 });
            let drawn = problem.run(&sampler, &x, &noise).to_kind(Kind::Double);
            let mean = drawn.mean(Kind::Double).double_value(&[]);
            let variance = drawn.var(true).double_value(&[]);
            // Five standard errors, and what f32 rounds.
            let mean_bound = 5.0 * (predicted.variance / count).sqrt() + 1e-5;
            let variance_bound = 5.0 * predicted.variance * (2.0 / count).sqrt() + 1e-5;
            assert!((mean - predicted.mean).abs() < mean_bound, "{sampler:?}: {mean}");
            assert!((variance - predicted.variance).abs() < variance_bound, "{sampler:?}: {variance}");
        }
    }
}
