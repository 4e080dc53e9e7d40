//! Laws of the samplers beside their truth.

use std::{cell::RefCell, ops::ControlFlow};

use dim_diffusion::{
    DiffusionError,
    noise::{NoiseStream, SampleNoise},
    sampler::{
        AncestralOptions, DdimOptions, DpmMultistepOptions, DpmSolverOptions, EdmOptions, Equation,
        EulerMaruyamaOptions, FlowOptions, Parametrization, Sampler, SamplerInputs, Spacing, StepVariance,
        UniPcOptions, unobserved,
    },
    schedule::{NoiseSchedule, RectifiedFlow, ScaledLinear, VpSde},
};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::{ClassNetwork, distance, zeros};

fn network(x: &Tensor, t: &Tensor, _: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
    Ok((x * 1.5).sin() + t.view([-1, 1]) / 1000.0)
}

fn samplers(steps: usize) -> [Sampler; 13] {
    let noise_prediction = Parametrization::Noise;
    [
        Sampler::DpmSolver(DpmSolverOptions { steps, ..Default::default() }),
        Sampler::DpmSolver(DpmSolverOptions {
            steps,
            order: 2,
            parametrization: noise_prediction,
            ..Default::default()
        }),
        Sampler::DpmMultistep(DpmMultistepOptions { steps, ..Default::default() }),
        Sampler::DpmMultistep(DpmMultistepOptions { steps, stochastic: true, ..Default::default() }),
        // One call a step, as the others have.
        Sampler::Edm(EdmOptions { steps, order: 1, ..Default::default() }),
        Sampler::Ddim(DdimOptions { steps, ..Default::default() }),
        Sampler::Ddim(DdimOptions { steps, eta: 0.7, ..Default::default() }),
        Sampler::EulerMaruyama(EulerMaruyamaOptions { steps, ..Default::default() }),
        Sampler::UniPc(UniPcOptions { steps, ..Default::default() }),
        Sampler::UniPc(UniPcOptions { steps, order: 3, lower_order_final: false, ..Default::default() }),
        Sampler::Flow(FlowOptions { steps, t_end: 1e-3, ..Default::default() }),
        Sampler::Ancestral(AncestralOptions { steps, ..Default::default() }),
        Sampler::Ancestral(AncestralOptions {
            steps,
            variance: StepVariance::Added,
            spacing: Spacing::LogSnr,
            ..Default::default()
        }),
    ]
}

fn start(seed: u64, samples: &[u64], kind: Kind) -> Tensor {
    let stream = NoiseStream::new(seed, "start");
    stream.normal(samples, &[6], tch::Device::Cpu).unwrap().to_kind(kind)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ddim_without_noise_is_first_order_dpm_solver(seed: u64, steps in 1usize..40, on_vp_sde: bool) {
        let (sd, vp) = (ScaledLinear::stable_diffusion(), VpSde::cifar10());
        let schedule: &dyn NoiseSchedule = if on_vp_sde { &vp } else { &sd };
        let x = start(seed, &[0, 1], Kind::Double);
        let inputs = SamplerInputs { denoiser: &network, schedule, x: &x, class: None, noise: None };
        let ddim = Sampler::Ddim(DdimOptions { steps, ..Default::default() });
        let by_ddim = ddim.sample(&inputs, &mut unobserved).unwrap();
        for parametrization in [Parametrization::Data, Parametrization::Noise] {
            let options = DpmSolverOptions { steps, order: 1, parametrization, ..Default::default() };
            let by_dpm = Sampler::DpmSolver(options).sample(&inputs, &mut unobserved).unwrap();
            prop_assert!(distance(&by_ddim, &by_dpm) < 1e-9);
        }
    }

    #[test]
    fn ancestral_sampling_is_ddim_at_eta_1(seed: u64, steps in 1usize..40, on: usize) {
        let schedules: [Box<dyn NoiseSchedule>; 3] = [
            Box::new(ScaledLinear::stable_diffusion()),
            Box::new(VpSde::cifar10()),
            Box::new(RectifiedFlow::new(2.0).unwrap()),
        ];
        let x = start(seed, &[0, 1], Kind::Double);
        let noise = SampleNoise::new(NoiseStream::new(seed, "steps"), vec![0, 1]);
        let schedule = &*schedules[on % 3];
        let inputs = SamplerInputs { denoiser: &network, schedule, x: &x, class: None, noise: Some(&noise) };
        let run = |sampler: Sampler| sampler.sample(&inputs, &mut unobserved).unwrap();
        let by_ddim = run(Sampler::Ddim(DdimOptions { steps, eta: 1.0, ..Default::default() }));
        let ancestral = run(Sampler::Ancestral(AncestralOptions { steps, ..Default::default() }));
        // The states grow where a network as wrong as this one is divided by little signal.
        prop_assert!(distance(&by_ddim, &ancestral) < 1e-9 * by_ddim.abs().max().double_value(&[]).max(1.0));
    }

    #[test]
    fn first_order_on_noise_levels_is_ddim_on_their_times(seed: u64, steps in 1usize..40) {
        // Euler's method on noise levels and on straight paths takes the same steps: both hold image and noise still.
        let schedule = ScaledLinear::stable_diffusion();
        let x = start(seed, &[0, 1], Kind::Double);
        let inputs = SamplerInputs { denoiser: &network, schedule: &schedule, x: &x, class: None, noise: None };
        let run = |sampler: Sampler| sampler.sample(&inputs, &mut unobserved).unwrap();
        let by_ddim = run(Sampler::Ddim(DdimOptions { steps, ..Default::default() }));
        let by_flow = run(Sampler::Flow(FlowOptions { steps, t_end: 1e-3, ..Default::default() }));
        prop_assert!(distance(&by_ddim, &by_flow) < 1e-9);
        let unipc = UniPcOptions { steps: 1, spacing: Spacing::Time, ..Default::default() };
        let one_step = run(Sampler::Ddim(DdimOptions { steps: 1, ..Default::default() }));
        prop_assert!(distance(&one_step, &run(Sampler::UniPc(unipc))) < 1e-9);
    }

    #[test]
    fn orders_add_up_to_the_evaluations(steps in 1usize..200, order in 1usize..=3) {
        let orders = DpmSolverOptions { steps, order, ..Default::default() }.orders().unwrap();
        prop_assert_eq!(orders.iter().sum::<usize>(), steps);
        prop_assert!(orders.iter().all(|o| (1..=order).contains(o)));
        // Never a higher order after a lower one, so that the small steps come last.
        prop_assert!(orders.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn samples_are_independent_of_the_batch_split(seed: u64, cut in 1usize..4) {
        let schedule = VpSde::cifar10();
        let samples = [3, 4, 5, 900];
        for sampler in samplers(7) {
            let run = |samples: &[u64]| {
                let noise = SampleNoise::new(NoiseStream::new(seed, "steps"), samples.to_vec());
                let x = start(seed, samples, Kind::Double);
                let inputs = SamplerInputs {
                    denoiser: &network,
                    schedule: &schedule,
                    x: &x,
                    class: None,
                    noise: Some(&noise),
                };
                sampler.sample(&inputs, &mut unobserved).unwrap()
            };
            let parts = Tensor::cat(&[run(&samples[..cut]), run(&samples[cut..])], 0);
            prop_assert!(distance(&run(&samples), &parts) < 1e-12);
        }
    }
}

#[test]
fn seed_decides_every_bit() {
    let schedule = ScaledLinear::stable_diffusion();
    let x = start(0, &[0, 1], Kind::Float);
    for sampler in samplers(9) {
        let run = |seed| {
            let noise = SampleNoise::new(NoiseStream::new(seed, "steps"), vec![0, 1]);
            let inputs =
                SamplerInputs { denoiser: &network, schedule: &schedule, x: &x, class: None, noise: Some(&noise) };
            sampler.sample(&inputs, &mut unobserved).unwrap()
        };
        assert_eq!(run(5), run(5), "{sampler:?}");
        let deterministic = run(5) == run(6);
        let without_noise = SamplerInputs { denoiser: &network, schedule: &schedule, x: &x, class: None, noise: None };
        assert_eq!(deterministic, sampler.sample(&without_noise, &mut unobserved).is_ok(), "{sampler:?}");
    }
}

/// Everything an observer and a network see of a run.
#[derive(Default)]
struct Seen {
    steps: Vec<(usize, usize, usize, f64)>,
    calls: usize,
}

fn watch(sampler: &Sampler, stop_at: Option<usize>) -> (Result<Tensor, DiffusionError>, Seen) {
    let seen = RefCell::new(Seen::default());
    let weight = Tensor::from(1.0f32).set_requires_grad(true);
    let counting = |x: &Tensor, t: &Tensor, class: Option<&Tensor>| {
        seen.borrow_mut().calls += 1;
        assert_eq!((t.size(), t.kind()), (vec![2], Kind::Float));
        Ok(network(x, t, class)? * &weight)
    };
    let schedule = ScaledLinear::stable_diffusion();
    let x = start(0, &[0, 1], Kind::Float);
    let noise = SampleNoise::new(NoiseStream::new(0, "steps"), vec![0, 1]);
    let inputs = SamplerInputs { denoiser: &counting, schedule: &schedule, x: &x, class: None, noise: Some(&noise) };
    let result = sampler.sample(&inputs, &mut |step| {
        seen.borrow_mut().steps.push((step.step, step.steps, step.evaluations, step.t));
        if stop_at == Some(step.step) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (result, seen.into_inner())
}

#[test]
fn the_observer_sees_every_step_from_the_start_to_the_end() {
    for sampler in samplers(11) {
        let (result, seen) = watch(&sampler, None);
        let x = result.unwrap();
        assert!(!x.requires_grad() && x.kind() == Kind::Float && x.size() == [2, 6]);
        assert_eq!((seen.calls, sampler.evaluations()), (11, 11));
        let steps = seen.steps[0].1;
        assert_eq!(seen.steps.len(), steps + 1);
        for (i, (step, of, ..)) in seen.steps.iter().enumerate() {
            assert_eq!((*step, *of), (i, steps));
        }
        assert_eq!((seen.steps[0].2, seen.steps[steps].2), (0, 11));
        assert!(seen.steps.is_sorted_by(|a, b| a.2 < b.2 && a.3 > b.3));
        assert_eq!(seen.steps[0].3, 1.0);
        let end = if matches!(sampler, Sampler::EulerMaruyama(_)) { 0.0 } else { 1e-3 };
        assert!((seen.steps[steps].3 - end).abs() < 1e-9);
    }
}

#[test]
fn the_observer_can_cancel() {
    for sampler in samplers(11) {
        let (result, seen) = watch(&sampler, Some(2));
        match result {
            Err(DiffusionError::Cancelled { step: 2, steps }) => assert_eq!(steps, seen.steps[0].1),
            other => panic!("{other:?}"),
        }
        assert_eq!(seen.calls, seen.steps[2].2);
        assert_eq!(watch(&sampler, Some(0)).1.calls, 0);
    }
}

#[test]
fn impossible_options_are_refused() {
    let dpm = |change: &dyn Fn(&mut DpmSolverOptions)| {
        let mut options = DpmSolverOptions::default();
        change(&mut options);
        Sampler::DpmSolver(options).validate().unwrap_err().to_string()
    };
    assert_eq!(dpm(&|o| o.steps = 0), "steps must be at least 1, but is 0");
    assert_eq!(dpm(&|o| o.order = 4), "order must be 1, 2 or 3, but is 4");
    assert_eq!(dpm(&|o| o.order = 0), "order must be 1, 2 or 3, but is 0");
    assert_eq!(dpm(&|o| o.t_start = 1.5), "t_start must be above 0 and at most 1, but is 1.5");
    assert_eq!(dpm(&|o| o.t_end = 0.0), "t_end must be above 0 and below t_start = 1, but is 0");
    assert!(dpm(&|o| o.t_end = f64::NAN).starts_with("t_end must be"));
    assert!(dpm(&|o| o.t_start = 1e-4).starts_with("t_end must be"));

    let eta = Sampler::Ddim(DdimOptions { eta: 1.5, ..Default::default() });
    assert_eq!(eta.validate().unwrap_err().to_string(), "eta must be 0 to 1, but is 1.5");
    let one = Sampler::EulerMaruyama(EulerMaruyamaOptions { steps: 1, ..Default::default() });
    assert!(one.validate().unwrap_err().to_string().starts_with("steps must be at least 2"));
    let refused = |sampler: Sampler| sampler.validate().unwrap_err().to_string();
    let unipc = |order| Sampler::UniPc(UniPcOptions { order, ..Default::default() });
    assert_eq!(refused(unipc(4)), "order must be 1, 2 or 3, but is 4");
    let flow = |order, t_end| Sampler::Flow(FlowOptions { order, t_end, ..Default::default() });
    assert_eq!(refused(flow(3, 0.0)), "order must be 1 or 2, but is 3");
    assert_eq!(refused(flow(1, -0.1)), "t_end must be 0 or more and below t_start = 1, but is -0.1");
    assert_eq!(refused(flow(1, 1.0)), "t_end must be 0 or more and below t_start = 1, but is 1");
    let early = Sampler::Ddim(DdimOptions { t_end: 1e-7, ..Default::default() });
    let error = watch(&early, None).0.unwrap_err().to_string();
    assert!(error.starts_with("t_end must be late enough"), "{error}");
    for sampler in samplers(0) {
        assert!(sampler.validate().is_err());
        assert!(watch(&sampler, None).0.is_err());
    }
}

#[test]
fn wrong_inputs_are_named() {
    let schedule = VpSde::cifar10();
    let run = |x: &Tensor, class: Option<&[i64]>, sampler: &Sampler| {
        let class = class.map(Tensor::from_slice);
        let inputs =
            SamplerInputs { denoiser: &ClassNetwork, schedule: &schedule, x, class: class.as_ref(), noise: None };
        sampler.sample(&inputs, &mut unobserved).map_err(|error| error.to_string())
    };
    let [dpm, _, _, _, _, ddim, stochastic, euler, _, _, _, ancestral, _] = samplers(4);
    let x = zeros(&[2, 3]);
    assert!(run(&x, Some(&[0, 4]), &dpm).is_ok());
    assert!(run(&x, Some(&[0, 4]), &ddim).is_ok());
    assert_eq!(
        run(&x, Some(&[5, 0]), &dpm).unwrap_err(),
        "class[0] is 5, but the classes are 0 to 3 and 4 means no class"
    );
    assert!(run(&x, Some(&[-1, 0]), &ddim).unwrap_err().starts_with("class[0] is -1"));
    assert!(run(&x, Some(&[0]), &dpm).unwrap_err().starts_with("class must have the shape [2]"));
    assert!(run(&zeros(&[0, 3]), Some(&[]), &dpm).unwrap_err().starts_with("x must have the shape"));
    let half = x.to_kind(Kind::BFloat16);
    assert!(run(&half, Some(&[0, 0]), &dpm).unwrap_err().starts_with("x must hold f32 or f64"));
    for sampler in [&stochastic, &euler, &ancestral] {
        let error = run(&x, Some(&[0, 0]), sampler).unwrap_err();
        assert!(error.starts_with("noise is missing"), "{error}");
    }
    let ode = EulerMaruyamaOptions { equation: Equation::ProbabilityFlow, ..Default::default() };
    assert!(run(&x, Some(&[0, 0]), &Sampler::EulerMaruyama(ode)).is_ok());
}

#[test]
fn samplers_are_read_from_configurations() {
    let read = |text: &str| toml::from_str::<Sampler>(text);
    let dpm = read("algorithm = 'dpm_solver'\nsteps = 20\nparametrization = 'noise'").unwrap();
    assert_eq!(
        dpm,
        Sampler::DpmSolver(DpmSolverOptions {
            steps: 20,
            parametrization: Parametrization::Noise,
            ..Default::default()
        })
    );
    for sampler in samplers(9) {
        assert_eq!(read(&toml::to_string(&sampler).unwrap()).unwrap(), sampler);
    }
    let unknown = read("algorithm = 'ddim'\nstep = 20").unwrap_err().to_string();
    assert!(unknown.contains("step"), "{unknown}");
    assert!(read("algorithm = 'heun'").is_err());
}

#[test]
fn flow_reaches_clean_images_and_calls_no_network_for_them() {
    let schedules: [Box<dyn NoiseSchedule>; 2] =
        [Box::new(ScaledLinear::stable_diffusion()), Box::new(RectifiedFlow::new(3.0).unwrap())];
    let x = start(3, &[0, 1], Kind::Float);
    for schedule in &schedules {
        for order in [1, 2] {
            let calls = RefCell::new(Vec::new());
            let counting = |x: &Tensor, t: &Tensor, class: Option<&Tensor>| {
                calls.borrow_mut().push(t.double_value(&[0]));
                network(x, t, class)
            };
            let inputs = SamplerInputs { denoiser: &counting, schedule: &**schedule, x: &x, class: None, noise: None };
            let sampler = Sampler::Flow(FlowOptions { steps: 5, order, ..Default::default() });
            let mut last = f64::NAN;
            let image = sampler.sample(&inputs, &mut |step| {
                last = step.t;
                ControlFlow::Continue(())
            });
            assert!(image.unwrap().isfinite().all().int64_value(&[]) == 1);
            assert_eq!((last, calls.borrow().len()), (0.0, sampler.evaluations()));
            assert!(calls.borrow().iter().all(|time| *time > 0.0), "{calls:?}");
        }
    }
}
