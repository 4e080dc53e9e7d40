//! Mean and variance of what samplers draw.

use dim_diffusion::{
    noise::{NoiseStream, SampleNoise},
    sampler::{
        AncestralOptions, DdimOptions, DpmMultistepOptions, DpmSolverOptions, EdmOptions, EulerMaruyamaOptions,
        Parametrization, Sampler, StepVariance, UniPcOptions,
    },
};
use tch::{Device, Kind};

use super::{Gaussian, Problem, assert_order, flows, problems};

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
