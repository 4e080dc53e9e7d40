//! Laws of the training loss.

use dim_diffusion::{
    Denoiser, DiffusionError, Prediction,
    objective::{LossWeight, NoisyBatch, Objective, ObjectiveOptions, TimeSampling, denoising_loss},
    schedule::{NoiseSchedule, RectifiedFlow, ScaledLinear, VpSde},
};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::{distance, prediction::KINDS, zeros};

const NULL_CLASS: i64 = 10;

fn objective(seed: u64, class_dropout: f64) -> Objective {
    let options = ObjectiveOptions { class_dropout, ..Default::default() };
    Objective::new(options, Some(NULL_CLASS), seed).unwrap()
}

fn schedules() -> [Box<dyn NoiseSchedule>; 3] {
    [Box::new(ScaledLinear::stable_diffusion()), Box::new(VpSde::cifar10()), Box::new(RectifiedFlow::new(2.0).unwrap())]
}

fn labels(batch: i64) -> Tensor {
    Tensor::arange(batch, (Kind::Int64, tch::Device::Cpu)).remainder(NULL_CLASS)
}

proptest! {
    #[test]
    fn draws_belong_to_images_not_to_batches(
        seed: u64,
        images_seen in 0..1u64 << 40,
        batch in 2i64..10,
        cut in 1i64..9,
    ) {
        let cut = cut.min(batch - 1);
        let time_sampling = TimeSampling::LogitNormal { mean: 0.2, std: 1.5 };
        for options in [ObjectiveOptions::default(), ObjectiveOptions { time_sampling, ..Default::default() }] {
        let options = ObjectiveOptions { class_dropout: 0.5, ..options };
        let objective = Objective::new(options, Some(NULL_CLASS), seed).unwrap();
        let x_0 = Tensor::randn([batch, 2, 3], (Kind::Float, tch::Device::Cpu));
        for schedule in schedules() {
            let draw = |from: i64, to: i64| {
                let rows = |x: &Tensor| x.slice(0, from, to, 1);
                let (x_0, class) = (rows(&x_0), rows(&labels(batch)));
                let images_seen = images_seen + from as u64;
                objective.draw(schedule.as_ref(), &x_0, Some(&class), images_seen).unwrap()
            };
            let (whole, left, right) = (draw(0, batch), draw(0, cut), draw(cut, batch));
            let joined = |part: &dyn Fn(&NoisyBatch) -> Tensor| Tensor::cat(&[part(&left), part(&right)], 0);
            prop_assert_eq!(&whole.x_t, &joined(&|b| b.x_t.shallow_clone()));
            prop_assert_eq!(&whole.t, &joined(&|b| b.t.shallow_clone()));
            prop_assert_eq!(&whole.noise, &joined(&|b| b.noise.shallow_clone()));
            prop_assert_eq!(
                whole.class.as_ref().unwrap(),
                &joined(&|b| b.class.as_ref().unwrap().shallow_clone())
            );
        }
        }
    }

    #[test]
    fn batch_loss_is_the_mean_of_the_samples(seed: u64) {
        let x_0 = Tensor::randn([3, 2, 2], (Kind::Float, tch::Device::Cpu));
        let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x * 0.5);
        let batch = objective(seed, 0.0).draw(&VpSde::cifar10(), &x_0, None, 0).unwrap();
        let loss = denoising_loss(&network, &batch, LossWeight::Uniform).unwrap();
        let by_hand = (&batch.noise - &batch.x_t * 0.5).square().mean_dim([1i64, 2].as_slice(), false, Kind::Float);
        prop_assert!(distance(&loss.per_sample, &by_hand) < 1e-6);
        prop_assert!(distance(&loss.mean, &by_hand.mean(Kind::Float)) < 1e-6);
    }
}

#[test]
fn labels_are_dropped_as_often_as_asked_and_no_others_change() {
    let batch = 20_000;
    let class = labels(batch);
    for probability in [0.0, 0.1, 0.15, 1.0] {
        let draw = |seed| {
            let drawn = objective(seed, probability).draw(&VpSde::cifar10(), &zeros(&[batch, 1]), Some(&class), 0);
            drawn.unwrap().class.unwrap()
        };
        let after = draw(5);
        let dropped = after.eq(NULL_CLASS);
        let frequency = dropped.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let standard_error = (probability * (1.0 - probability) / batch as f64).sqrt();
        assert!((frequency - probability).abs() <= 5.0 * standard_error, "{frequency}");
        assert_eq!(class.where_self(&dropped, &after), class.where_self(&dropped, &class));
        assert_eq!(after, draw(5));
    }
}

#[test]
fn every_discrete_step_is_drawn_equally_often() {
    let schedule = ScaledLinear::new(1e-4, 0.05, 20).unwrap();
    let batch = 100_000;
    let drawn = objective(2, 0.0).draw(&schedule, &zeros(&[batch, 1]), None, 0).unwrap();
    let counts = drawn.t.to_kind(Kind::Int64).bincount::<Tensor>(None, 0);
    assert_eq!(counts.size(), [21]);
    assert_eq!(counts.int64_value(&[0]), 0);
    let counts = Vec::<f64>::try_from(counts.slice(0, 1, None, 1).to_kind(Kind::Double)).unwrap();
    let expected = batch as f64 / 20.0;
    let chi_squared: f64 = counts.iter().map(|n| (n - expected).powi(2) / expected).sum();
    // 19 degrees of freedom: mean 19, deviation 6.2; this bound is exceeded once in a hundred thousand seeds.
    assert!(chi_squared < 60.0, "{chi_squared}");
}

#[test]
fn continuous_times_are_uniform() {
    let batch = 100_000i64;
    let drawn = objective(2, 0.0).draw(&VpSde::cifar10(), &zeros(&[batch, 1]), None, 0).unwrap();
    let t = drawn.t.to_kind(Kind::Double) / 999.0;
    assert!(t.min().double_value(&[]) >= 0.0 && t.max().double_value(&[]) < 1.0);
    let moment = |power: i64| t.pow_tensor_scalar(power).mean(Kind::Double).double_value(&[]);
    let standard_error = (1.0 / (12.0 * batch as f64)).sqrt();
    assert!((moment(1) - 0.5).abs() < 5.0 * standard_error);
    assert!((moment(2) - 1.0 / 3.0).abs() < 5.0 * standard_error);
}

#[test]
fn noised_images_keep_their_variance_and_give_back_the_clean_ones() {
    let x_0 = Tensor::randn([64, 8, 8], (Kind::Float, tch::Device::Cpu));
    let schedule = ScaledLinear::stable_diffusion();
    let drawn = objective(1, 0.0).draw(&schedule, &x_0, None, 0).unwrap();
    let steps: Vec<usize> = Vec::<f32>::try_from(&drawn.t).unwrap().iter().map(|t| *t as usize).collect();
    let share = |f: &dyn Fn(f64) -> f64| {
        let of_steps: Vec<f64> = steps.iter().map(|n| f(schedule.alpha_bar_table()[*n])).collect();
        Tensor::from_slice(&of_steps).view([-1, 1, 1])
    };
    let expected = share(&f64::sqrt) * x_0 + share(&|bar| (1.0 - bar).sqrt()) * &drawn.noise;
    assert!(distance(&drawn.x_t, &expected) < 1e-6);
}

#[test]
fn half_precision_images_are_noised_in_half_precision() {
    let x_0 = Tensor::randn([4, 3], (Kind::BFloat16, tch::Device::Cpu));
    let options = ObjectiveOptions { round_time_to_bf16: true, ..Default::default() };
    let objective = Objective::new(options, None, 0).unwrap();
    let drawn = objective.draw(&ScaledLinear::stable_diffusion(), &x_0, None, 0).unwrap();
    assert_eq!((drawn.x_t.kind(), drawn.noise.kind()), (Kind::BFloat16, Kind::BFloat16));
    assert_eq!(drawn.t.kind(), Kind::Float);
    assert_eq!(drawn.t, drawn.t.to_kind(Kind::BFloat16).to_kind(Kind::Float));
    let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x.shallow_clone());
    assert_eq!(denoising_loss(&network, &drawn, LossWeight::Uniform).unwrap().mean.kind(), Kind::Float);
}

#[test]
fn the_loss_has_the_gradient_of_its_equation() {
    let weight = Tensor::from(0.3f32).set_requires_grad(true);
    let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x * &weight);
    let x_0 = Tensor::randn([5, 4], (Kind::Float, tch::Device::Cpu));
    let objective = objective(9, 0.0);
    let loss = objective.loss(&network, &VpSde::cifar10(), &x_0, None, 100).unwrap();
    loss.mean.backward();
    let drawn = objective.draw(&VpSde::cifar10(), &x_0, None, 100).unwrap();
    let by_hand = ((&drawn.x_t * 0.3 - &drawn.noise) * &drawn.x_t * 2.0).mean(Kind::Float);
    assert!(distance(&weight.grad(), &by_hand) < 1e-6);
}

#[test]
fn weighted_loss_has_the_gradient_of_its_equation() {
    let scale = Tensor::from(0.3f32).set_requires_grad(true);
    let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x * &scale);
    let x_0 = Tensor::randn([5, 4], (Kind::Float, tch::Device::Cpu));
    let loss_weight = LossWeight::MinSnr { gamma: 2.0 };
    let options = ObjectiveOptions { loss_weight, ..Default::default() };
    let objective = Objective::new(options, None, 9).unwrap();
    objective.loss(&network, &VpSde::cifar10(), &x_0, None, 100).unwrap().mean.backward();
    let drawn = objective.draw(&VpSde::cifar10(), &x_0, None, 100).unwrap();
    let weights: Vec<f32> =
        shares(&drawn).iter().map(|(alpha, sigma)| (2.0 / (alpha / sigma).powi(2)).min(1.0) as f32).collect();
    assert!(weights.iter().any(|weight| *weight < 1.0), "{weights:?}");
    let weights = Tensor::from_slice(&weights).view([-1, 1]);
    let by_hand = ((&drawn.x_t * 0.3 - &drawn.noise) * &drawn.x_t * 2.0 * weights).mean(Kind::Float);
    assert!(distance(&scale.grad(), &by_hand) < 1e-6);
}

/// A network of some kind for data that are one image, 0.3 everywhere, which it sees `off` too bright.
struct OneImage<'a> {
    kind: Prediction,
    batch: &'a NoisyBatch,
    off: f64,
}

const ONE_IMAGE: f64 = 0.3;

impl Denoiser for OneImage<'_> {
    fn predict(&self, x_t: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let [alpha, sigma] = [&self.batch.alpha, &self.batch.sigma].map(|share| share.view([-1, 1]));
        let x_0 = x_t.to_kind(Kind::Double).full_like(ONE_IMAGE + self.off);
        let noise = (x_t - &x_0 * &alpha) / &sigma;
        Ok(self.kind.target(&x_0, &noise, &alpha, &sigma))
    }

    fn prediction(&self) -> Prediction {
        self.kind
    }
}

fn batch_of_one_image(schedule: &dyn NoiseSchedule) -> NoisyBatch {
    objective(4, 0.0).draw(schedule, &zeros(&[40, 6]).fill_(ONE_IMAGE), None, 0).unwrap()
}

fn loss(kind: Prediction, batch: &NoisyBatch, off: f64, weight: LossWeight) -> Vec<f64> {
    let loss = denoising_loss(&OneImage { kind, batch, off }, batch, weight).unwrap();
    assert!(distance(&loss.mean, &loss.per_sample.mean(Kind::Float)) < 1e-7);
    Vec::try_from(loss.per_sample.to_kind(Kind::Double)).unwrap()
}

fn shares(batch: &NoisyBatch) -> Vec<(f64, f64)> {
    let [alpha, sigma] = [&batch.alpha, &batch.sigma].map(|x| Vec::<f64>::try_from(x.to_kind(Kind::Double)).unwrap());
    alpha.into_iter().zip(sigma).collect()
}

#[test]
fn exact_network_of_every_kind_has_no_loss_and_a_wrong_one_that_of_its_error() {
    for schedule in schedules() {
        let batch = batch_of_one_image(&*schedule);
        for kind in KINDS {
            for (value, (alpha, sigma)) in loss(kind, &batch, 0.0, LossWeight::Uniform).into_iter().zip(shares(&batch))
            {
                // f32 shows where little noise is divided by.
                assert!(value < 1e-10 * (1.0 + 1.0 / (sigma * sigma)), "{kind}: {value} at {alpha}, {sigma}");
            }
            for (value, (alpha, sigma)) in loss(kind, &batch, 0.1, LossWeight::Uniform).into_iter().zip(shares(&batch))
            {
                let expected = (0.1 / kind.x_0_per_output(alpha, sigma)).powi(2);
                assert!((value - expected).abs() < 1e-3 * expected + 1e-5, "{kind}: {value} {expected}");
            }
        }
    }
}

#[test]
fn min_snr_makes_one_loss_of_every_kind_of_prediction() {
    let weight = LossWeight::MinSnr { gamma: 5.0 };
    for schedule in schedules() {
        let batch = batch_of_one_image(&*schedule);
        for kind in KINDS {
            for (value, (alpha, sigma)) in loss(kind, &batch, 0.1, weight).into_iter().zip(shares(&batch)) {
                let expected = 0.01 * (alpha / sigma).powi(2).min(5.0);
                assert!((value - expected).abs() < 2e-3 * expected + 1e-7, "{kind}: {value} {expected}");
            }
        }
    }
}

#[test]
fn min_snr_weights_are_those_of_the_paper() {
    let weight = LossWeight::MinSnr { gamma: 5.0 };
    for alpha in [0.05, 0.4, 0.9, 0.999_f64] {
        let sigma = (1.0 - alpha * alpha).sqrt();
        let snr = (alpha / sigma).powi(2);
        for (kind, expected) in [
            (Prediction::XStart, snr.min(5.0)),
            (Prediction::Epsilon, (5.0 / snr).min(1.0)),
            (Prediction::Velocity, snr.min(5.0) / (snr + 1.0)),
        ] {
            assert!((weight.at(kind, alpha, sigma) - expected).abs() < 1e-12, "{kind} {alpha}");
        }
        assert_eq!(LossWeight::Uniform.at(Prediction::Velocity, alpha, sigma), 1.0);
    }
    // Without noise there is nothing to learn of it, and no division by it either.
    assert_eq!([0, 1, 2, 3].map(|kind| weight.at(KINDS[kind], 1.0, 0.0)), [0.0, 5.0, 0.0, 0.0]);
}

#[test]
fn logit_normal_times_have_the_stated_moments() {
    let (mean, std, batch) = (0.7, 0.6, 50_000);
    let options = ObjectiveOptions { time_sampling: TimeSampling::LogitNormal { mean, std }, ..Default::default() };
    let objective = Objective::new(options, None, 8).unwrap();
    let drawn = objective.draw(&RectifiedFlow::new(1.0).unwrap(), &zeros(&[batch, 1]), None, 0).unwrap();
    let logit = drawn.sigma.logit(None);
    let standard_error = std / (batch as f64).sqrt();
    assert!((logit.mean(Kind::Double).double_value(&[]) - mean).abs() < 5.0 * standard_error);
    assert!((logit.std(true).double_value(&[]) - std).abs() < 5.0 * standard_error);
    // As far out as can be, a time stays below 1: on discrete steps it would be beyond the last.
    let far = TimeSampling::LogitNormal { mean: 1e6, std: 1.0 };
    let objective = Objective::new(ObjectiveOptions { time_sampling: far, ..options }, None, 8).unwrap();
    let drawn = objective.draw(&ScaledLinear::stable_diffusion(), &zeros(&[4, 1]), None, 0).unwrap();
    assert_eq!(drawn.t, Tensor::from_slice(&[1000f32; 4]));
}

#[test]
fn impossible_weights_and_times_are_refused() {
    let refused = |options| Objective::new(options, None, 0).unwrap_err().to_string();
    let weight = |gamma| ObjectiveOptions { loss_weight: LossWeight::MinSnr { gamma }, ..Default::default() };
    assert_eq!(refused(weight(0.0)), "gamma must be a positive number, but is 0");
    let time =
        |mean, std| ObjectiveOptions { time_sampling: TimeSampling::LogitNormal { mean, std }, ..Default::default() };
    assert_eq!(refused(time(0.0, -1.0)), "std must be a positive number, but is -1");
    assert_eq!(refused(time(f64::NAN, 1.0)), "mean must be a finite number, but is NaN");
}

#[test]
fn wrong_arguments_are_named() {
    let options = |class_dropout| ObjectiveOptions { class_dropout, ..Default::default() };
    let refused =
        |class_dropout, null_class| Objective::new(options(class_dropout), null_class, 0).unwrap_err().to_string();
    assert!(refused(1.5, Some(3)).starts_with("class_dropout must be a probability"));
    assert!(refused(f64::NAN, Some(3)).starts_with("class_dropout must be a probability"));
    assert!(refused(0.1, None).starts_with("null_class is missing: class_dropout is 0.1"));

    let draw = |x_0: &Tensor, class: &Tensor| {
        let drawn = objective(0, 0.1).draw(&VpSde::cifar10(), x_0, Some(class), 0);
        drawn.unwrap_err().to_string()
    };
    assert_eq!(
        draw(&zeros(&[2, 3]), &Tensor::from_slice(&[10i64, 11])),
        "class[1] is 11, but the classes are 0 to 9 and 10 means no class"
    );
    assert!(draw(&zeros(&[2, 3]), &Tensor::from_slice(&[1i64])).starts_with("class must have the shape [2]"));
    assert!(draw(&zeros(&[2, 3]), &Tensor::from_slice(&[1i32, 2])).starts_with("class must hold i64"));
    assert!(draw(&zeros(&[0, 3]), &labels(0)).starts_with("x_0 must have the shape [batch, …]"));
    assert!(draw(&labels(2).view([2, 1]), &labels(2)).starts_with("x_0 must hold floating-point"));

    let bad = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x.slice(1, 0, 1, 1));
    let result = objective(0, 0.0).loss(&bad, &VpSde::cifar10(), &zeros(&[2, 3]), None, 0);
    assert!(matches!(result, Err(DiffusionError::WrongShape { .. })));
    let failing = |_: &Tensor, _: &Tensor, _: Option<&Tensor>| Err(DiffusionError::denoiser("out of order"));
    let result = objective(0, 0.0).loss(&failing, &VpSde::cifar10(), &zeros(&[2, 3]), None, 0);
    assert_eq!(result.unwrap_err().to_string(), "the denoiser failed: out of order");
}

#[test]
fn the_options_are_read_from_configurations() {
    let options: ObjectiveOptions = toml::from_str("class_dropout = 0.1").unwrap();
    assert_eq!(options, ObjectiveOptions { class_dropout: 0.1, ..Default::default() });
    assert!(toml::from_str::<ObjectiveOptions>("dropout = 0.1").is_err());
    let read = |text| toml::from_str::<ObjectiveOptions>(text);
    assert_eq!(read("loss_weight = { min_snr = {} }").unwrap().loss_weight, LossWeight::MinSnr { gamma: 5.0 });
    assert_eq!(read("loss_weight = 'uniform'").unwrap(), ObjectiveOptions::default());
    let flow = read("time_sampling = { logit_normal = { mean = 0.5 } }").unwrap();
    assert_eq!(flow.time_sampling, TimeSampling::LogitNormal { mean: 0.5, std: 1.0 });
    assert!(read("time_sampling = { logit_normal = { sd = 0.5 } }").is_err());
}
