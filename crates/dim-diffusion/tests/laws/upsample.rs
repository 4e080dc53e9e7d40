//! Upsampling without training: what holds for every time and factor.

use dim_diffusion::{
    Denoiser, DiffusionError, Prediction,
    schedule::{NoiseSchedule, ScaledLinear},
    upsample::{FlowUpsampleGuidance, TimeMatching, UpsampleGuidance, UpsampleOptions},
};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// Keeps the time that it is asked for, and the image.
struct Probe(std::cell::RefCell<Vec<(f64, Tensor)>>);

impl Denoiser for Probe {
    fn predict(&self, x_t: &Tensor, t: &Tensor, _: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.0.borrow_mut().push((t.double_value(&[0]), x_t.shallow_clone()));
        Ok(x_t * 0.3)
    }
}

fn image(side: i64) -> Tensor {
    Tensor::arange(2 * 3 * side * side, (Kind::Double, Device::Cpu)).sin().view([2, 3, side, side])
}

/// The calls of the network for a prediction at network time `t`.
fn calls(t: f64, options: UpsampleOptions) -> Vec<(f64, Tensor)> {
    let schedule = ScaledLinear::stable_diffusion();
    let probe = Probe(std::cell::RefCell::default());
    let guidance = UpsampleGuidance::new(&probe, &schedule, options).unwrap();
    let _ = guidance.predict_at(&image(4 * options.factor as i64), t, None).unwrap();
    probe.0.into_inner()
}

fn alpha_bar(network_time: f64) -> f64 {
    let t = Tensor::from(network_time / 1000.0);
    ScaledLinear::stable_diffusion().alpha_bar(&t).double_value(&[])
}

proptest! {
    #[test]
    fn shrunk_image_has_the_signal_and_noise_of_the_time_that_the_network_is_told(
        t in 700.0_f64..1000.0,
        factor in 2_usize..5,
    ) {
        let options = UpsampleOptions::new(factor);
        let calls = calls(t, options);
        prop_assert_eq!(calls.len(), 2);
        let m = factor as f64;
        let (signal, tau) = (alpha_bar(t), calls[1].0);
        let power = signal + (1.0 - signal) / (m * m);
        prop_assert!((alpha_bar(tau) - signal / power).abs() < 1e-9, "{}", tau);
        prop_assert!(tau < t);
        // The published program is off by at most a step and a thousandth.
        let published = UpsampleOptions { matching: TimeMatching::Published, ..options };
        let near = self::calls(t, published)[1].0;
        prop_assert!((near - tau).abs() < 2.5, "{near} {tau}");
    }

    #[test]
    fn guidance_ends_where_it_is_told_to(t in 1.0_f64..1000.0, eta in 0.05_f64..1.0) {
        let options = UpsampleOptions { eta, ..UpsampleOptions::new(2) };
        let expected = if t >= 1000.0 * (1.0 - eta) + 1e-3 { 2 } else { 1 };
        prop_assume!((t - 1000.0 * (1.0 - eta)).abs() > 1e-3);
        prop_assert_eq!(calls(t, options).len(), expected);
    }

    #[test]
    fn coarse_part_becomes_that_of_the_small_image(t in 700.0_f64..1000.0, factor in 2_usize..4) {
        let schedule = ScaledLinear::stable_diffusion();
        let probe = Probe(std::cell::RefCell::default());
        let guidance = UpsampleGuidance::new(&probe, &schedule, UpsampleOptions::new(factor)).unwrap();
        let m = factor as i64;
        let prediction = guidance.predict_at(&image(4 * m), t, None).unwrap();
        let small = &probe.0.borrow()[1].1 * 0.3;
        let coarse = prediction.avg_pool2d([m, m], [m, m], [0, 0], false, true, None::<i64>);
        prop_assert!((coarse - small / factor as f64).abs().max().double_value(&[]) < 1e-12);
    }
}

#[test]
fn wrong_options_and_sizes_are_named() {
    let schedule = ScaledLinear::stable_diffusion();
    let probe = Probe(std::cell::RefCell::default());
    for (options, name) in [
        (UpsampleOptions::new(1), "factor"),
        (UpsampleOptions { theta: f64::NAN, ..UpsampleOptions::new(2) }, "theta"),
        (UpsampleOptions { eta: 1.5, ..UpsampleOptions::new(2) }, "eta"),
    ] {
        let error = UpsampleGuidance::new(&probe, &schedule, options).err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
    let guidance = UpsampleGuidance::new(&probe, &schedule, UpsampleOptions::new(3)).unwrap();
    let error = guidance.predict_at(&image(8), 900.0, None).unwrap_err().to_string();
    assert!(error.contains("multiples of the factor 3"), "{error}");
}

/// Knows one picture of the small size, and takes every image for a noisy version of it; of larger images it knows nothing
/// but their mean, which it has wrong.
struct KnowsOnePicture {
    picture: Tensor,
    prediction: Prediction,
}

impl Denoiser for KnowsOnePicture {
    fn predict(&self, x_t: &Tensor, t: &Tensor, _: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let sigma = t.view([-1, 1, 1, 1]) / 1000.0;
        let alpha = 1.0 - &sigma;
        let x_0 = if x_t.size() == self.picture.size() { self.picture.shallow_clone() } else { x_t.zeros_like() + 0.7 };
        let noise = (x_t - &x_0 * &alpha) / &sigma;
        Ok(self.prediction.target(&x_0, &noise, &alpha, &sigma))
    }

    fn prediction(&self) -> Prediction {
        self.prediction
    }
}

proptest! {
    /// The small image is looked at with the noise that it has: of a picture and noise of the small size, each pixel of which is
    /// m × m of the large one, it is exactly the small noisy image but for the noise's size.
    #[test]
    fn flow_guidance_gives_the_large_picture_the_coarse_part_of_the_small_one(
        s in 0.71_f64..1.0,
        m in 2_i64..4,
        velocity in any::<bool>(),
        theta in 0.0_f64..1.0,
    ) {
        let picture = image(4);
        let large = |x: &Tensor| x.upsample_nearest2d([4 * m, 4 * m], None, None);
        let prediction = if velocity { Prediction::Flow } else { Prediction::XStart };
        let network = KnowsOnePicture { picture: picture.shallow_clone(), prediction };
        let options = UpsampleOptions { theta, ..UpsampleOptions::new(usize::try_from(m).unwrap()) };
        let guidance = FlowUpsampleGuidance::new(&network, options).unwrap();
        let noise = image(4 * m).cos();
        let x_t = large(&picture) * (1.0 - s) + &noise * s;
        let velocity = guidance.predict_at(&x_t, 1000.0 * s, None).unwrap();
        let x_0 = &x_t - velocity * s;
        let expected = large(&picture) * theta + (1.0 - theta) * 0.7;
        prop_assert!((x_0 - expected).abs().max().double_value(&[]) < 1e-9);
    }

    /// Signal and noise of the shrunk image are in the ratio of the time that the network is told.
    #[test]
    fn flow_guidance_tells_the_time_of_the_shrunk_image(s in 0.71_f64..1.0, factor in 2_usize..5) {
        let probe = Probe(std::cell::RefCell::default());
        let guidance = FlowUpsampleGuidance::new(&probe, UpsampleOptions::new(factor)).unwrap();
        let x_t = image(4 * factor as i64);
        let _ = guidance.predict_at(&x_t, 1000.0 * s, None).unwrap();
        let calls = probe.0.into_inner();
        let tau = calls[1].0 / 1000.0;
        prop_assert!((tau / (1.0 - tau) - s / (1.0 - s) / factor as f64).abs() <= 1e-9 * (tau / (1.0 - tau)));
        // What is left of the signal then has the share that it should have.
        let m = factor as i64;
        let shrunk = x_t.avg_pool2d([m, m], [m, m], [0, 0], false, true, None::<i64>);
        let scale = (1.0 - s) / (1.0 - tau);
        prop_assert!((&calls[1].1 * scale - shrunk).abs().max().double_value(&[]) < 1e-9);
    }
}
