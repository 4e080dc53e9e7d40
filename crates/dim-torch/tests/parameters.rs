//! Flat parameter buffers and the optimiser on them.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_torch::{AdamW, AdamWConfig, ParameterSpec, Parameters, TorchError};
use tch::{Device, Kind, Tensor, no_grad};

const CONFIG: AdamWConfig = AdamWConfig {
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.03,
    clip_norm: None,
    ema_decay: 0.9,
    ema_warmup: false,
};

fn specs() -> Vec<ParameterSpec> {
    let late = ParameterSpec::new("weight", &[3, 5]).with_late_gradient();
    vec![late, ParameterSpec::new("bias", &[7]), ParameterSpec::new("scale", &[])]
}

fn fill(parameters: &Parameters) {
    for (index, (_, tensor)) in parameters.iter().enumerate() {
        let values = Tensor::arange(tensor.numel() as i64, (Kind::Float, Device::Cpu)).view_as(tensor);
        no_grad(|| tensor.shallow_clone().copy_(&(values * 0.1 + index as f64)));
    }
}

/// A loss with a different gradient for every element.
fn loss(parameters: &Parameters) -> Tensor {
    parameters.iter().map(|(_, tensor)| tensor.pow_tensor_scalar(3).sum(Kind::Float)).reduce(|a, b| a + b).unwrap()
}

#[test]
fn gradients_accumulate_into_the_flat_buffer() {
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap();
    fill(&parameters);
    loss(&parameters).backward();
    loss(&parameters).backward();
    let flat = parameters.gradients().unwrap();
    let mut total = 0.0;
    for (_, tensor) in parameters.iter() {
        let expected = tensor.detach().square() * 6.0;
        assert!(tensor.grad().allclose(&expected, 1e-6, 1e-6, false));
        total += expected.sum(Kind::Double).double_value(&[]);
    }
    assert!((flat.sum(Kind::Double).double_value(&[]) - total).abs() < 1e-3, "every .grad is a view of the buffer");
    parameters.zero_gradients();
    assert_eq!(parameters.get("weight").unwrap().grad().abs().max().double_value(&[]), 0.0);
}

#[test]
fn optimiser_follows_the_definition_of_adamw() {
    follows_the_definition(false);
}

#[test]
fn average_that_warms_up_begins_with_smaller_decays() {
    follows_the_definition(true);
}

fn follows_the_definition(ema_warmup: bool) {
    let config = AdamWConfig { clip_norm: Some(1.5), ema_decay: 0.35, ema_warmup, ..CONFIG };
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap();
    fill(&parameters);
    let mut optimizer = AdamW::new(config, &parameters);

    let mut value = parameters.values().to_kind(Kind::Double);
    let mut ema = value.copy();
    let (mut first, mut second) = (value.zeros_like(), value.zeros_like());
    for step in 1..=5 {
        parameters.zero_gradients();
        loss(&parameters).backward();
        let mut gradient = parameters.gradients().unwrap().to_kind(Kind::Double);
        let norm = gradient.norm().double_value(&[]);
        gradient *= (1.5 / norm).min(1.0);
        let reported = optimizer.step(&parameters, 1e-2).unwrap().double_value(&[]);
        assert!((reported / norm - 1.0).abs() < 1e-5, "the norm before clipping is reported");

        first = first * 0.9 + &gradient * 0.1;
        second = second * 0.99 + gradient.square() * 0.01;
        let corrected = &first / (1.0 - 0.9_f64.powi(step));
        let root = (&second / (1.0 - 0.99_f64.powi(step))).sqrt() + 1e-8;
        value = &value * (1.0 - 1e-2 * 0.03) - corrected / root * 1e-2;
        let steps = f64::from(step - 1); // before this one
        let warm = (1.0 + steps) / (10.0 + steps); // passes 0.35 at the fifth step
        let decay = if ema_warmup { warm.min(0.35) } else { 0.35 };
        ema = &ema * decay + &value * (1.0 - decay);
    }
    let error =
        |ours: &Tensor, expected: &Tensor| (ours.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
    assert!(error(&parameters.values(), &value) < 1e-5);
    assert!(error(&optimizer.ema, &ema) < 1e-5);
    assert_eq!(optimizer.step, 5);
}

/// What torch.optim.AdamW (2.11.0) makes of these parameters in f64 by five steps on the sum of their cubes, with a group that decays for `weight`
/// and `filter` and one that does not for the others (lr 0.01, betas 0.9 and 0.99, eps 1e-8, weight decay 0.5, gradients clipped to 1.5).
const BY_TORCH: [(&str, &[i64], &[f64]); 5] = [
    (
        "weight",
        &[3, 5],
        &[
            0.0,
            0.049951577,
            0.146202617,
            0.243442728,
            0.340850234,
            0.438312344,
            0.535798473,
            0.633297156,
            0.730803188,
            0.828313875,
            0.925827692,
            1.023343712,
            1.120861338,
            1.218380172,
            1.315899937,
        ],
    ),
    ("bias", &[7], &[0.95003547, 1.05002746, 1.150020913, 1.250015464, 1.350010859, 1.450006916, 1.550003504]),
    ("scale", &[], &[1.949993474]),
    (
        "table",
        &[2, 4],
        &[2.949980579, 3.049979766, 3.149979005, 3.249978293, 3.349977624, 3.449976994, 3.549976401, 3.649975841],
    ),
    ("filter", &[2, 3], &[3.851505952, 3.949030321, 4.046554715, 4.144079132, 4.24160357, 4.339128028]),
];

#[test]
fn decay_of_matrices_alone_is_that_of_parameter_groups() {
    let spec = |(name, shape, _): &(&str, &[i64], &[f64])| match *name {
        "weight" => ParameterSpec::new(*name, shape).with_late_gradient(),
        "table" => ParameterSpec::new(*name, shape).no_matrix(),
        _ => ParameterSpec::new(*name, shape),
    };
    let specs: Vec<_> = BY_TORCH.iter().map(spec).collect();
    let config = AdamWConfig { weight_decay: 0.5, clip_norm: Some(1.5), ..CONFIG };
    let parameters = Parameters::zeros(&specs, Device::Cpu).unwrap().with_bf16_copy();
    fill(&parameters);
    let copied = parameters.weight("bias").unwrap();
    let _ = copied.computed(Kind::BFloat16).unwrap();
    let mut optimizer = AdamW::new(config, &parameters).decaying_matrices_alone(&parameters);
    for _ in 0..5 {
        parameters.zero_gradients();
        loss(&parameters).backward();
        let _ = optimizer.step(&parameters, 1e-2).unwrap();
    }
    for (name, _, expected) in BY_TORCH {
        let found = parameters.get(name).unwrap().detach().flatten(0, -1).to_kind(Kind::Double);
        let error = (found - Tensor::from_slice(expected)).abs().max().double_value(&[]);
        assert!(error < 2e-6, "{name}: {error}");
    }
    assert!(copied.computed(Kind::BFloat16).unwrap().equal(&copied.leaf().detach().to_kind(Kind::BFloat16)));
}

#[test]
fn names_are_unique_and_known() {
    let twice = [ParameterSpec::new("w", &[2]), ParameterSpec::new("w", &[3])];
    assert!(matches!(Parameters::zeros(&twice, Device::Cpu), Err(TorchError::DuplicateParameter(name)) if name == "w"));
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap();
    assert!(matches!(parameters.get("gain"), Err(TorchError::UnknownParameter(name)) if name == "gain"));
}

#[test]
fn a_flat_buffer_of_another_model_is_refused() {
    let short = Tensor::zeros([5], (Kind::Float, Device::Cpu));
    assert!(matches!(Parameters::from_flat(&specs(), short), Err(TorchError::FlatBuffer { .. })));
}

#[test]
fn an_average_shares_the_buffer_it_is_read_from() {
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap();
    fill(&parameters);
    let average = Parameters::from_flat(&specs(), parameters.values() * 2.0).unwrap();
    assert!(average.get("bias").unwrap().allclose(&(parameters.get("bias").unwrap() * 2.0), 1e-6, 1e-6, false));
    assert!(!average.get("bias").unwrap().requires_grad() && average.gradients().is_none());
}

#[test]
fn bf16_copy_follows_the_weights_whoever_writes_them() {
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap().with_bf16_copy();
    let assert_fresh = |when: &str| {
        for (spec, tensor) in parameters.iter() {
            let copy = parameters.weight(&spec.name).unwrap().computed(Kind::BFloat16).unwrap();
            assert!(!copy.requires_grad() && copy.kind() == Kind::BFloat16 && copy.size() == tensor.size());
            assert!(copy.equal(&tensor.detach().to_kind(Kind::BFloat16)), "{} is stale {when}", spec.name);
        }
    };
    assert_fresh("at the start");
    fill(&parameters);
    assert_fresh("after a write to the leaves");
    let _ = parameters.values().fill_(0.37);
    assert_fresh("after a write to the flat buffer");
    let _ = parameters.values().narrow(0, 0, 4).fill_(0.73);
    assert_fresh("after a write to a part of it");
    let mut optimizer = AdamW::new(CONFIG, &parameters);
    let average = Parameters::from_flat(&specs(), optimizer.ema.shallow_clone()).unwrap().with_bf16_copy();
    let before = average.weight("bias").unwrap().computed(Kind::BFloat16).unwrap().copy();
    let held = parameters.weight("bias").unwrap().computed(Kind::BFloat16).unwrap();
    loss(&parameters).backward();
    let _ = optimizer.step(&parameters, 1.0).unwrap();
    let leaf = parameters.get("bias").unwrap().detach();
    assert!(held.equal(&leaf.to_kind(Kind::BFloat16)), "the step writes the copy itself");
    assert_fresh("after a step");
    let after = average.weight("bias").unwrap().computed(Kind::BFloat16).unwrap();
    assert!(!after.equal(&before) && after.equal(&average.get("bias").unwrap().to_kind(Kind::BFloat16)));
    assert!(matches!(parameters.weight("gain"), Err(TorchError::UnknownParameter(name)) if name == "gain"));
}

#[test]
fn a_step_between_forward_and_backward_is_noticed() {
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap();
    fill(&parameters);
    let mut optimizer = AdamW::new(CONFIG, &parameters);
    let weight = parameters.get("weight").unwrap();
    let product = (&weight * &weight).sum(Kind::Float);
    let _ = optimizer.step(&parameters, 1e-2).unwrap();
    let error = product.f_backward().unwrap_err().to_string();
    assert!(error.contains("modified by an inplace operation"), "{error}");
}

#[test]
fn clipping_leaves_the_gradients_and_a_norm_that_is_no_number_shows() {
    let config = AdamWConfig { clip_norm: Some(1.0), ..CONFIG };
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap();
    let mut optimizer = AdamW::new(config, &parameters);
    let _ = parameters.gradients().unwrap().fill_(3.0);
    let norm = optimizer.step(&parameters, 1e-2).unwrap();
    assert_eq!(norm.size(), Vec::<i64>::new());
    assert_eq!(parameters.gradients().unwrap().min().double_value(&[]), 3.0);
    let _ = parameters.gradients().unwrap().fill_(f64::NAN);
    assert!(optimizer.step(&parameters, 1e-2).unwrap().double_value(&[]).is_nan());
}
