//! Networks that lack a part of DiM, by which the part is measured.

#![allow(clippy::unwrap_used)]

use dim_model::{Backbone, BackboneConfig, DimConfig, Initialisation, LongSkip, Padding, Precision};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

fn network(config: &DimConfig) -> Box<dyn Backbone> {
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
    let network = config.build(parameters, Precision::F32).unwrap();
    network.initialise(5).unwrap();
    network
}

fn inputs() -> (Tensor, Tensor, Tensor) {
    tch::manual_seed(3);
    let x = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    (x, Tensor::from_slice(&[10_f32, 700.0]), Tensor::from_slice(&[0_i64, 2]))
}

fn output(config: &DimConfig) -> Tensor {
    let (x, t, class) = inputs();
    network(config).forward(&x, &t, Some(&class)).unwrap().detach()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn without(part: &str) -> DimConfig {
    let config = DimConfig::tiny();
    match part {
        "padding" => DimConfig { padding: Padding::None, ..config },
        "long skips" => DimConfig { long_skip: Some(LongSkip::None), ..config },
        "local convolutions" => DimConfig { local_convolution: false, ..config },
        "columns" => DimConfig { scan_directions: 2, ..config },
        _ => DimConfig { scan_directions: 1, ..config },
    }
}

const PARTS: [&str; 5] = ["padding", "long skips", "local convolutions", "columns", "reverses"];

#[test]
fn every_parameter_of_what_is_left_is_used() {
    let (x, t, class) = inputs();
    for part in PARTS {
        let config = without(part);
        let network = network(&config);
        let output = network.forward(&x, &t, Some(&class)).unwrap();
        assert_eq!(output.size(), [2, 3, 8, 8], "{part}");
        output.square().sum(Kind::Float).backward();
        for (spec, tensor) in network.parameters().iter() {
            assert!(tensor.grad().abs().max().double_value(&[]) > 0.0, "{part}: {}", spec.name);
        }
        assert!(distance(&output.detach(), &self::output(&DimConfig::tiny())) > 1e-3, "{part} makes no difference");
    }
}

#[test]
fn parts_that_are_left_out_have_neither_parameters_nor_cost() {
    let whole = DimConfig::tiny();
    let d = whole.d_model as u64;
    let parameters = |part| whole.parameter_count() - without(part).parameter_count();
    assert_eq!(parameters("padding"), 3 * d);
    assert_eq!(parameters("long skips"), 2 * (2 * d * d + d));
    assert_eq!(parameters("local convolutions"), 2 * (9 * d + d));
    assert_eq!(parameters("columns"), 0);
    // 5 tokens before the grid, 4 × 4 patches, three more a side with padding.
    assert_eq!(whole.tokens(8, 8), 5 + 7 * 7);
    assert_eq!(without("padding").tokens(8, 8), 5 + 16);
    assert!(without("long skips").cost(8, 8).total() < whole.cost(8, 8).total());
}

#[test]
fn identity_initialisation_begins_as_the_network_without_local_convolutions() {
    let identity = DimConfig { initialisation: Initialisation::Identity, ..DimConfig::tiny() };
    let bare = DimConfig { local_convolution: false, ..identity.clone() };
    // Every parameter is drawn by its name alone, so that both have the same weights.
    assert!(distance(&output(&identity), &output(&bare)) < 1e-6);
    // Without modulation, and with a class that only its token tells.
    let network = network(&identity);
    for (spec, tensor) in network.parameters().iter().filter(|(spec, _)| spec.name.contains("modulation")) {
        let expected = if spec.name.starts_with("class_embed") { 0.02 } else { 0.0 };
        assert!((tensor.detach().std(true).double_value(&[]) - expected).abs() < 0.01, "{}", spec.name);
    }
}

#[test]
fn a_published_network_is_written_as_ever_and_read_with_every_part() {
    let text = serde_json::to_string(&DimConfig::tiny()).unwrap();
    for field in ["scan_directions", "local_convolution", "initialisation"] {
        assert!(!text.contains(field), "{text}");
    }
    assert_eq!(serde_json::from_str::<DimConfig>(&text).unwrap(), DimConfig::tiny());
    for part in PARTS {
        let text = serde_json::to_string(&without(part)).unwrap();
        assert_eq!(serde_json::from_str::<DimConfig>(&text).unwrap(), without(part), "{text}");
    }
}
