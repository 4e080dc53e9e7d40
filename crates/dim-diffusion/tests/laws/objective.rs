//! Laws of the training loss.

use dim_diffusion::{
    DiffusionError,
    objective::{NoisyBatch, Objective, ObjectiveOptions, epsilon_loss},
    schedule::{NoiseSchedule, ScaledLinear, VpSde},
};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::{distance, zeros};

const NULL_CLASS: i64 = 10;

fn objective(seed: u64, class_dropout: f64) -> Objective {
    let options = ObjectiveOptions { class_dropout, ..Default::default() };
    Objective::new(options, Some(NULL_CLASS), seed).unwrap()
}

fn schedules() -> [Box<dyn NoiseSchedule>; 2] {
    [Box::new(ScaledLinear::stable_diffusion()), Box::new(VpSde::cifar10())]
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
        let objective = objective(seed, 0.5);
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

    #[test]
    fn batch_loss_is_the_mean_of_the_samples(seed: u64) {
        let x_0 = Tensor::randn([3, 2, 2], (Kind::Float, tch::Device::Cpu));
        let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x * 0.5);
        let batch = objective(seed, 0.0).draw(&VpSde::cifar10(), &x_0, None, 0).unwrap();
        let loss = epsilon_loss(&network, &batch).unwrap();
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
    let options = ObjectiveOptions { class_dropout: 0.0, round_time_to_bf16: true };
    let objective = Objective::new(options, None, 0).unwrap();
    let drawn = objective.draw(&ScaledLinear::stable_diffusion(), &x_0, None, 0).unwrap();
    assert_eq!((drawn.x_t.kind(), drawn.noise.kind()), (Kind::BFloat16, Kind::BFloat16));
    assert_eq!(drawn.t.kind(), Kind::Float);
    assert_eq!(drawn.t, drawn.t.to_kind(Kind::BFloat16).to_kind(Kind::Float));
    let network = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x.shallow_clone());
    assert_eq!(epsilon_loss(&network, &drawn).unwrap().mean.kind(), Kind::Float);
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
    assert_eq!(options, ObjectiveOptions { class_dropout: 0.1, round_time_to_bf16: false });
    assert!(toml::from_str::<ObjectiveOptions>("dropout = 0.1").is_err());
}
