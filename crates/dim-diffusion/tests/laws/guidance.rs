//! Laws of classifier-free guidance.

use std::cell::Cell;

use dim_diffusion::{Denoiser, DiffusionError, guidance::ClassifierFreeGuidance};
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
