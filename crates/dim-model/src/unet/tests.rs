//! What holds for any weights.
#![allow(clippy::unwrap_used)]

use tch::Device;

use super::*;
use crate::procedural::fill;

/// A network with weights computed from their names: none of them is zero.
fn network(config: UnetConfig) -> Unet {
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
    fill(&parameters, 3).unwrap();
    Unet::new(config, parameters).unwrap()
}

/// Images, times and labels of a batch.
fn inputs(batch: i64, height: i64, width: i64) -> (Tensor, Tensor, Tensor) {
    let values = Tensor::arange(batch * 3 * height * width, (Kind::Float, Device::Cpu));
    let x = (values * 0.7).sin().view([batch, 3, height, width]);
    let t = Tensor::arange(batch, (Kind::Float, Device::Cpu)) * 321.5 + 0.75;
    (x, t, Tensor::arange(batch, (Kind::Int64, Device::Cpu)))
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// The argument that an error of `result` names.
fn argument(result: Result<Tensor, ModelError>) -> &'static str {
    match result {
        Err(ModelError::Input { argument, .. }) => argument,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fresh_network_predicts_zero_and_each_branch_starts_closed() {
    let config = UnetConfig::tiny();
    let network =
        Unet::new(config.clone(), Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap()).unwrap();
    network.initialise(1).unwrap();
    let (x, t, class) = inputs(2, 16, 16);
    let out = network.forward_all(&x, &t, Some(&class)).unwrap();
    assert_eq!(out.size(), [2, 6, 16, 16]);
    assert_eq!(out.abs().max().double_value(&[]), 0.0);

    let moments = |name: &str| {
        let tensor = network.parameters().get(name).unwrap().detach();
        (tensor.mean(Kind::Float).double_value(&[]), tensor.std(true).double_value(&[]), tensor.abs().max())
    };
    for name in ["middle_block.1.proj_out.weight", "input_blocks.3.0.out_layers.3.bias", "out.2.weight", "out.0.bias"] {
        assert_eq!(moments(name).2.double_value(&[]), 0.0, "{name}");
    }
    for name in ["out.0.weight", "middle_block.1.norm.weight", "input_blocks.1.0.out_layers.0.weight"] {
        assert_eq!(moments(name), (1.0, 0.0, Tensor::from(1.0_f32)), "{name}");
    }
    let bound = (9.0_f64 * 64.0).powf(-0.5);
    let (_, deviation, largest) = moments("middle_block.0.in_layers.2.weight");
    assert!(largest.double_value(&[]) <= bound && (deviation / (bound / 3_f64.sqrt()) - 1.0).abs() < 0.02);
    // 64 values of a bias, in the range of its weight.
    let (_, deviation, largest) = moments("middle_block.0.in_layers.2.bias");
    assert!(largest.double_value(&[]) <= bound && (deviation / (bound / 3_f64.sqrt()) - 1.0).abs() < 0.3);
    let (mean, deviation, _) = moments("label_emb.weight");
    assert!(mean.abs() < 0.15 && (deviation - 1.0).abs() < 0.1, "{mean} {deviation}");
}

#[test]
fn batch_in_parts_gives_the_same_as_the_whole() {
    let network = network(UnetConfig::tiny());
    let (x, t, class) = inputs(3, 8, 20);
    let whole = network.forward(&x, &t, Some(&class)).unwrap();
    let part = |start, length| {
        let of = |tensor: &Tensor| tensor.narrow(0, start, length);
        network.forward(&of(&x), &of(&t), Some(&of(&class))).unwrap()
    };
    let parts = Tensor::cat(&[part(0, 1), part(1, 2)], 0);
    assert!(difference(&whole, &parts) < 5e-5, "{}", difference(&whole, &parts));
}

#[test]
fn noise_is_the_first_half_of_all_channels() {
    let network = network(UnetConfig::tiny());
    let (x, t, class) = inputs(2, 4, 8);
    let all = network.forward_all(&x, &t, Some(&class)).unwrap();
    let noise = network.forward(&x, &t, Some(&class)).unwrap();
    assert_eq!((all.size(), noise.size()), (vec![2, 6, 4, 8], vec![2, 3, 4, 8]));
    assert_eq!(difference(&noise, &all.narrow(1, 0, 3)), 0.0);
}

#[test]
fn no_class_is_the_label_after_the_last_where_there_is_one() {
    let (x, t, class) = inputs(2, 4, 4);
    let guided = network(UnetConfig { null_class: true, ..UnetConfig::tiny() });
    let null = Tensor::from_slice(&[5_i64, 5]);
    let without = guided.forward(&x, &t, None).unwrap();
    assert_eq!(difference(&without, &guided.forward(&x, &t, Some(&null)).unwrap()), 0.0);
    assert!(difference(&without, &guided.forward(&x, &t, Some(&class)).unwrap()) > 0.01);

    assert_eq!(argument(network(UnetConfig::tiny()).forward(&x, &t, None)), "class");
    let unconditional = network(UnetConfig { classes: 0, ..UnetConfig::tiny() });
    assert_eq!(argument(unconditional.forward(&x, &t, Some(&class))), "class");
    assert_eq!(unconditional.forward(&x, &t, None).unwrap().size(), x.size());
}

#[test]
fn input_that_does_not_fit_is_named() {
    let network = network(UnetConfig::tiny());
    let (x, t, class) = inputs(2, 8, 8);
    let named = |x: &Tensor, t: &Tensor, class: &Tensor| argument(network.forward(x, t, Some(class)));
    assert_eq!(named(&x.narrow(1, 0, 2), &t, &class), "x");
    assert_eq!(named(&x.narrow(3, 0, 6), &t, &class), "x");
    assert_eq!(named(&x.select(0, 0), &t, &class), "x");
    assert_eq!(named(&x, &t.narrow(0, 0, 1), &class), "t");
    assert_eq!(named(&x, &t.unsqueeze(0), &class), "t");
    assert_eq!(named(&x, &t, &class.to_kind(Kind::Int)), "class");
    assert_eq!(named(&x, &t, &class.narrow(0, 0, 1)), "class");
}

#[test]
fn bf16_stays_near_f32() {
    let config = UnetConfig::tiny();
    let (x, t, class) = inputs(2, 16, 16);
    let exact = network(config.clone()).forward(&x, &t, Some(&class)).unwrap();
    let scale = exact.square().mean(Kind::Float).sqrt().double_value(&[]);
    for precision in [Precision::Bf16, Precision::Bf16Plain] {
        let rounded = network(config.clone()).with_precision(precision).forward(&x, &t, Some(&class)).unwrap();
        assert_eq!(rounded.kind(), Kind::Float);
        let error = (&rounded - &exact).square().mean(Kind::Float).sqrt().double_value(&[]) / scale;
        assert!(error > 1e-4 && error < 0.03, "{precision:?}: {error}");
    }
}
