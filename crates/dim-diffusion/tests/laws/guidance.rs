//! Laws of classifier-free guidance.

use std::cell::Cell;

use dim_diffusion::{
    Denoiser, DiffusionError,
    guidance::{Autoguidance, ClassifierFreeGuidance},
};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::{ClassNetwork, distance, zeros};

/// Remembers the batch of its last call and how many calls there were.
struct Counting<'a>(&'a dyn Denoiser, Cell<(usize, i64)>);

impl Denoiser for Counting<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        assert_eq!((x_t.size()[0], t.size()[0]), (t.size()[0], class.unwrap().size()[0]));
        self.1.set((self.1.get().0 + 1, x_t.size()[0]));
        self.0.predict(x_t, t, class)
    }

    fn null_class(&self) -> Option<i64> {
        self.0.null_class()
    }
}

fn inputs(classes: &[i64]) -> (Tensor, Tensor, Tensor) {
    let batch = classes.len() as i64;
    let x = Tensor::randn([batch, 6], (Kind::Float, tch::Device::Cpu));
    (x, zeros(&[batch]), Tensor::from_slice(classes))
}

fn guided(network: &dyn Denoiser, cfg_scale: f64, classes: &[i64], x: &Tensor) -> Tensor {
    let guidance = ClassifierFreeGuidance::new(network, cfg_scale).unwrap();
    guidance.predict(x, &zeros(&[x.size()[0]]), Some(&Tensor::from_slice(classes))).unwrap()
}

proptest! {
    #[test]
    fn weight_one_is_the_conditional_prediction_and_zero_the_unconditional(
        classes in proptest::collection::vec(0..4i64, 1..6),
    ) {
        let (x, t, class) = inputs(&classes);
        let conditional = ClassNetwork.predict(&x, &t, Some(&class)).unwrap();
        prop_assert_eq!(guided(&ClassNetwork, 1.0, &classes, &x), conditional);
        let none = class.full_like(4);
        let unconditional = ClassNetwork.predict(&x, &t, Some(&none)).unwrap();
        prop_assert!(distance(&guided(&ClassNetwork, 0.0, &classes, &x), &unconditional) < 1e-6);
    }

    #[test]
    fn prediction_is_linear_in_the_weight(
        classes in proptest::collection::vec(0..4i64, 1..6),
        weight in -3.0..10.0f64,
    ) {
        let (x, ..) = inputs(&classes);
        let [at_zero, at_one, at_weight] =
            [0.0, 1.0, weight].map(|weight| guided(&ClassNetwork, weight, &classes, &x));
        let expected = &at_zero + (at_one - &at_zero) * weight;
        prop_assert!(distance(&at_weight, &expected) < 1e-4);
    }
}

#[test]
fn both_predictions_come_from_one_call_and_weight_one_needs_one_half() {
    let (x, t, class) = inputs(&[0, 1, 2]);
    for (weight, batch) in [(1.5, 6), (1.0, 3)] {
        let counting = Counting(&ClassNetwork, Cell::default());
        let guidance = ClassifierFreeGuidance::new(&counting, weight).unwrap();
        let _ = guidance.predict(&x, &t, Some(&class)).unwrap();
        assert_eq!(counting.1.get(), (1, batch));
    }
}

#[test]
fn what_guidance_lacks_is_named() {
    let without_classes = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x.shallow_clone());
    let error = |weight| ClassifierFreeGuidance::new(&without_classes, weight).err().map(|error| error.to_string());
    assert!(error(1.4).unwrap().starts_with("null_class is missing: cfg_scale is 1.4"));
    assert!(error(f64::INFINITY).unwrap().starts_with("cfg_scale must be a finite number"));
    assert_eq!(error(1.0), None);

    let guidance = ClassifierFreeGuidance::new(&ClassNetwork, 1.4).unwrap();
    let (x, t, class) = inputs(&[0, 1, 2]);
    let missing = guidance.predict(&x, &t, None).unwrap_err().to_string();
    assert!(missing.starts_with("class is missing"), "{missing}");
    let short = guidance.predict(&x, &t, Some(&class.slice(0, 0, 2, 1))).unwrap_err();
    assert!(matches!(short, DiffusionError::WrongShape { .. }), "{short}");
}

proptest! {
    #[test]
    fn outside_its_interval_guidance_costs_and_changes_nothing(t in 0.0..1000.0f64, low in 0.0..500.0f64, width in 1.0..500.0f64) {
        let (x, _, class) = inputs(&[0, 1, 2]);
        let counting = Counting(&ClassNetwork, Cell::default());
        let guidance = ClassifierFreeGuidance::new(&counting, 3.0).unwrap().within(low, low + width).unwrap();
        let found = guidance.predict_at(&x, t, Some(&class)).unwrap();
        let inside = (low..=low + width).contains(&t);
        prop_assert_eq!(counting.1.get(), (1, if inside { 6 } else { 3 }));
        let plain = ClassifierFreeGuidance::new(&ClassNetwork, if inside { 3.0 } else { 1.0 }).unwrap();
        prop_assert_eq!(found, plain.predict_at(&x, t, Some(&class)).unwrap());
    }

    #[test]
    fn rescaling_goes_from_the_guided_deviation_to_the_conditional(weight in 1.5..8.0f64, phi in 0.0..=1.0f64) {
        let classes = [0, 3, 1];
        let (x, t, class) = inputs(&classes);
        let deviation = |x: &Tensor| x.std_dim(Some([1_i64].as_slice()), true, false);
        let of = |phi| {
            let guidance = ClassifierFreeGuidance::new(&ClassNetwork, weight).unwrap().rescaled(phi).unwrap();
            deviation(&guidance.predict(&x, &t, Some(&class)).unwrap())
        };
        let conditional = deviation(&ClassNetwork.predict(&x, &t, Some(&class)).unwrap());
        let expected = of(0.0) * (1.0 - phi) + conditional * phi;
        prop_assert!(distance(&of(phi), &expected) < 1e-5);
    }

    #[test]
    fn autoguidance_moves_away_from_the_weak_network(scale in 0.0..5.0f64) {
        let (x, t, class) = inputs(&[0, 1, 2]);
        let main = ClassNetwork.predict(&x, &t, Some(&class)).unwrap();
        let weak = ClassifierFreeGuidance::new(&ClassNetwork, 0.0).unwrap();
        let of_weak = weak.predict(&x, &t, Some(&class)).unwrap();
        let guided = Autoguidance::new(&ClassNetwork, &weak, scale).unwrap().predict(&x, &t, Some(&class)).unwrap();
        prop_assert!(distance(&guided, &(&of_weak + (&main - &of_weak) * scale)) < 1e-5);
        // A network is no guide to itself.
        let alone = Autoguidance::new(&ClassNetwork, &ClassNetwork, scale).unwrap();
        prop_assert!(distance(&alone.predict(&x, &t, Some(&class)).unwrap(), &main) < 1e-6);
    }
}

#[test]
fn wrong_options_of_guidance_are_named() {
    let guidance = || ClassifierFreeGuidance::new(&ClassNetwork, 2.0).unwrap();
    let error = |result: Result<ClassifierFreeGuidance<'_>, DiffusionError>| result.err().unwrap().to_string();
    assert!(error(guidance().within(500.0, 400.0)).contains("500 to 400"));
    assert!(error(guidance().within(f64::NAN, 400.0)).contains("interval"));
    assert!(error(guidance().rescaled(1.5)).contains("rescale"));
    let unconditional = |x: &Tensor, _: &Tensor, _: Option<&Tensor>| Ok(x.shallow_clone());
    let error = Autoguidance::new(&ClassNetwork, &unconditional, 2.0).err().unwrap().to_string();
    assert!(error.contains("null class") && error.contains("none"), "{error}");
}
