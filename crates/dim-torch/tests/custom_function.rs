//! The autograd bridge: values and gradients pass, errors and panics stop at the border.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dim_torch::{
    TorchError,
    custom_function::{CustomFunction, Forward, apply},
};
use tch::{Kind, Tensor};

/// What the operation does when it is called.
#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Work,
    FailForward,
    FailBackward,
    PanicForward,
    PanicBackward,
    ForgetGradient,
}

/// x · y, and its negative as a second output.
struct Product {
    behaviour: Behaviour,
    drops: Arc<AtomicUsize>,
}

impl Drop for Product {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

impl CustomFunction for Product {
    const NAME: &'static str = "product";

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        match self.behaviour {
            Behaviour::FailForward => return Err(TorchError::UnknownParameter("forward".into())),
            Behaviour::PanicForward => panic!("forward went wrong"),
            _ => {}
        }
        let product = inputs[0].f_mul(&inputs[1])?;
        let negative = product.f_neg()?;
        Ok(Forward { outputs: vec![product, negative], saved: inputs.iter().map(Tensor::shallow_clone).collect() })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        match self.behaviour {
            Behaviour::FailBackward => return Err(TorchError::UnknownParameter("backward".into())),
            Behaviour::PanicBackward => panic!("backward went wrong"),
            Behaviour::ForgetGradient => return Ok(vec![None]),
            _ => {}
        }
        let mut gradient = saved[0].zeros_like();
        if let Some(positive) = &grad_outputs[0] {
            gradient += positive;
        }
        if let Some(negative) = &grad_outputs[1] {
            gradient -= negative;
        }
        Ok(vec![needs_gradient[0].then(|| &gradient * &saved[1]), needs_gradient[1].then(|| &gradient * &saved[0])])
    }
}

fn inputs() -> (Tensor, Tensor) {
    let leaf = |values: &[f32]| Tensor::from_slice(values).set_requires_grad(true);
    (leaf(&[1.0, 2.0, 3.0]), leaf(&[4.0, 5.0, 6.0]))
}

fn run(behaviour: Behaviour) -> (Result<Vec<Tensor>, TorchError>, Tensor, Tensor, Arc<AtomicUsize>) {
    let (x, y) = inputs();
    let drops = Arc::new(AtomicUsize::new(0));
    let outputs = apply(Product { behaviour, drops: drops.clone() }, &[&x, &y]);
    (outputs, x, y, drops)
}

#[test]
fn gradients_flow_through_every_output_that_the_loss_uses() {
    let (outputs, x, y, drops) = run(Behaviour::Work);
    let outputs = outputs.unwrap();
    assert_eq!(Vec::<f32>::try_from(&outputs[1]).unwrap(), [-4.0, -10.0, -18.0]);
    (&outputs[0] * 3.0 + &outputs[1]).sum(Kind::Float).backward();
    assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [8.0, 10.0, 12.0]);
    assert_eq!(Vec::<f32>::try_from(y.grad()).unwrap(), [2.0, 4.0, 6.0]);
    drop(outputs);
    assert_eq!(drops.load(Ordering::SeqCst), 1, "the operation is dropped once, with its graph");
}

#[test]
fn an_output_that_the_loss_ignores_has_no_gradient() {
    let (outputs, x, ..) = run(Behaviour::Work);
    outputs.unwrap()[1].sum(Kind::Float).backward();
    assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [-4.0, -5.0, -6.0]);
}

#[test]
fn nothing_is_recorded_when_no_input_needs_a_gradient() {
    let drops = Arc::new(AtomicUsize::new(0));
    let x = Tensor::from_slice(&[1.0_f32]);
    let outputs = apply(Product { behaviour: Behaviour::Work, drops: drops.clone() }, &[&x, &x]).unwrap();
    assert!(!outputs[0].requires_grad());
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn errors_and_panics_become_errors_of_the_call() {
    let message = |behaviour| run(behaviour).0.unwrap_err().to_string();
    assert!(message(Behaviour::FailForward).contains("no parameter `forward`"));
    let panic = message(Behaviour::PanicForward);
    assert!(panic.contains("product panicked: forward went wrong"), "{panic}");

    for (behaviour, expected) in [
        (Behaviour::FailBackward, "no parameter `backward`"),
        (Behaviour::PanicBackward, "product panicked: backward went wrong"),
        (Behaviour::ForgetGradient, "backward returned 1 gradients"),
    ] {
        let (outputs, _, _, drops) = run(behaviour);
        let outputs = outputs.unwrap();
        let error = outputs[0].sum(Kind::Float).f_backward().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        drop(outputs);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_second_derivative_is_refused() {
    let (outputs, x, ..) = run(Behaviour::Work);
    let loss = outputs.unwrap()[0].square().sum(Kind::Float);
    let error = Tensor::f_run_backward(&[loss], &[&x], true, true).unwrap_err().to_string();
    assert!(error.contains("first derivative only"), "{error}");
}

#[test]
fn a_saved_tensor_that_was_overwritten_is_noticed() {
    let (x, y) = inputs();
    let factor = &y * 1.0;
    let drops = Arc::new(AtomicUsize::new(0));
    let outputs = apply(Product { behaviour: Behaviour::Work, drops }, &[&x, &factor]).unwrap();
    let _ = tch::no_grad(|| factor.shallow_clone().fill_(7.0));
    assert!(outputs[0].sum(Kind::Float).f_backward().is_err());
}
