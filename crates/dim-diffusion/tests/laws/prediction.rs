//! Laws of the kinds of prediction.

use dim_diffusion::{
    Denoiser, DiffusionError, Prediction,
    guidance::{Autoguidance, ClassifierFreeGuidance},
    schedule::{NoiseSchedule, RectifiedFlow, ScaledLinear, VpSde},
    upsample::{UpsampleGuidance, UpsampleOptions},
};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::distance;

pub(crate) const KINDS: [Prediction; 4] =
    [Prediction::Epsilon, Prediction::XStart, Prediction::Velocity, Prediction::Flow];

fn schedules() -> [Box<dyn NoiseSchedule>; 3] {
    [Box::new(ScaledLinear::stable_diffusion()), Box::new(VpSde::cifar10()), Box::new(RectifiedFlow::new(2.0).unwrap())]
}

proptest! {
    #[test]
    fn image_and_noise_follow_from_every_kind_of_output(t in 0.01..0.99f64, x_0 in -3.0..3.0f64, noise in -3.0..3.0f64) {
        let [t, x_0, noise] = [t, x_0, noise].map(Tensor::from);
        for schedule in schedules() {
            let (alpha, sigma) = (schedule.alpha(&t), schedule.sigma(&t));
            let x_t = &x_0 * &alpha + &noise * &sigma;
            for kind in KINDS {
                let output = kind.target(&x_0, &noise, &alpha, &sigma);
                prop_assert!(distance(&kind.x_0(&output, &x_t, &alpha, &sigma), &x_0) < 1e-10, "{kind}");
                prop_assert!(distance(&kind.noise(&output, &x_t, &alpha, &sigma), &noise) < 1e-10, "{kind}");
            }
        }
    }

    #[test]
    fn output_moves_the_image_by_the_stated_rate(t in 0.01..0.99f64, x_t in -3.0..3.0f64, output in -3.0..3.0f64) {
        let [t, x_t, output] = [t, x_t, output].map(Tensor::from);
        for schedule in schedules() {
            let (alpha, sigma) = (schedule.alpha(&t), schedule.sigma(&t));
            for kind in KINDS {
                let moved = kind.x_0(&(&output + 1.0), &x_t, &alpha, &sigma) - kind.x_0(&output, &x_t, &alpha, &sigma);
                let rate = kind.x_0_per_output(alpha.double_value(&[]), sigma.double_value(&[]));
                prop_assert!((moved.double_value(&[]).abs() - rate).abs() < 1e-9 * rate.max(1.0), "{kind}");
            }
        }
    }
}

#[test]
fn pure_noise_gives_an_image_unless_the_network_tells_the_noise() {
    let [alpha, sigma, x_t, output] = [0.0, 1.0, 0.3, 0.8].map(|x: f64| Tensor::from(x));
    for (kind, x_0) in [(Prediction::XStart, 0.8), (Prediction::Velocity, -0.8), (Prediction::Flow, -0.5)] {
        assert!((kind.x_0(&output, &x_t, &alpha, &sigma).double_value(&[]) - x_0).abs() < 1e-15, "{kind}");
    }
}

#[test]
fn kinds_are_read_from_configurations_by_the_names_they_show() {
    #[derive(serde::Deserialize)]
    struct Section {
        prediction: Prediction,
    }
    for kind in KINDS {
        let section: Section = toml::from_str(&format!("prediction = '{kind}'")).unwrap();
        assert_eq!(section.prediction, kind);
    }
    assert!(toml::from_str::<Section>("prediction = 'x_start'").is_err());
}

/// A network of some kind that sees the same image, `x / 2`, and the noise that follows from it.
struct Telling(Prediction, ScaledLinear);

impl Denoiser for Telling {
    fn predict(&self, x_t: &Tensor, t: &Tensor, _: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let t = t.get(0).to_kind(Kind::Double) / 1000.0;
        let (alpha, sigma) = (self.1.alpha(&t), self.1.sigma(&t));
        let x_0 = x_t * 0.5;
        let noise = (x_t - &x_0 * &alpha) / &sigma;
        Ok(self.0.target(&x_0, &noise, &alpha, &sigma))
    }

    fn prediction(&self) -> Prediction {
        self.0
    }

    fn null_class(&self) -> Option<i64> {
        Some(4)
    }
}

fn telling(kind: Prediction) -> Telling {
    Telling(kind, ScaledLinear::stable_diffusion())
}

#[test]
fn guidance_predicts_what_its_network_does_and_upsampling_the_noise() {
    let schedule = ScaledLinear::stable_diffusion();
    let x = Tensor::arange(64, (Kind::Double, tch::Device::Cpu)).sin().view([1, 1, 8, 8]);
    let upsampled = |kind| {
        let network = telling(kind);
        let guidance = UpsampleGuidance::new(&network, &schedule, UpsampleOptions::new(2)).unwrap();
        assert_eq!(guidance.prediction(), Prediction::Epsilon);
        guidance.predict_at(&x, 900.0, None).unwrap()
    };
    let expected = upsampled(Prediction::Epsilon);
    for kind in KINDS {
        let (network, weak) = (telling(kind), telling(kind));
        assert_eq!(ClassifierFreeGuidance::new(&network, 2.0).unwrap().prediction(), kind);
        assert_eq!(Autoguidance::new(&network, &weak, 2.0).unwrap().prediction(), kind);
        assert!(distance(&upsampled(kind), &expected) < 1e-9, "{kind}");
    }
    let other = telling(Prediction::Flow);
    let error = Autoguidance::new(&other, &telling(Prediction::Velocity), 2.0).err().unwrap().to_string();
    assert_eq!(error, "the weak network's prediction must be flow, but is v");
}
