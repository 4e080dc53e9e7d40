//! How far samplers are from the exact flow of the probability-flow ODE.

use dim_diffusion::{
    Prediction,
    noise::{NoiseStream, SampleNoise},
    sampler::{
        AncestralOptions, DdimOptions, DpmMultistepOptions, DpmSolverOptions, EdmOptions, Equation,
        EulerMaruyamaOptions, FlowOptions, Parametrization, Sampler, Spacing, UniPcOptions, Weighting,
    },
};
use tch::{Device, Kind};

use super::{MEAN, Problem, assert_order, flows, observed_order, problems};
use crate::{distance, prediction::KINDS};

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
