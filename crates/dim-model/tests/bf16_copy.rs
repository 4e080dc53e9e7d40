//! Networks in bf16 compute the same with a copy of their weights as with weights converted in every pass.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_model::{Backbone, BackboneConfig, ModelConfig, Precision};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

/// A network with fresh weights that are nowhere zero.
fn network(name: &str, precision: Precision) -> Box<dyn Backbone> {
    let config = ModelConfig::named(name).unwrap();
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
    let network = config.build(parameters, precision).unwrap();
    let _ = tch::no_grad(|| {
        tch::manual_seed(5);
        network.parameters().values().normal_(0.0, 0.1)
    });
    network
}

#[test]
fn copy_changes_no_bit_of_output_and_gradients() {
    for name in ["dit_tiny", "uvit_tiny"] {
        let config = ModelConfig::named(name).unwrap();
        let side = config.image_size() as i64;
        let x = Tensor::arange(2 * 3 * side * side, (Kind::Float, Device::Cpu)).sin().view([2, 3, side, side]);
        let (t, class) = (Tensor::from_slice(&[10.0_f32, 700.0]), Tensor::from_slice(&[0_i64, 2]));
        let evaluate = |precision| {
            let network = network(name, precision);
            let out = network.forward(&x, &t, Some(&class)).unwrap();
            out.square().sum(Kind::Float).backward();
            (out.detach(), network.parameters().gradients().unwrap())
        };
        // On the CPU the two differ in this alone.
        let (copied, converted) = (evaluate(Precision::Bf16), evaluate(Precision::Bf16Plain));
        assert!(copied.0.equal(&converted.0) && copied.1.equal(&converted.1), "{name}");
        assert!(copied.0.abs().max().double_value(&[]) > 0.0);
    }
}
