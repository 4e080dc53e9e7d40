//! What backward computes again changes memory and time, and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_model::{BackboneConfig, ModelConfig, Precision, Recompute};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

#[test]
fn output_and_gradients_are_those_of_a_network_that_keeps_everything() {
    for name in ["tiny", "dit_tiny", "uvit_tiny", "unet_tiny"] {
        let config = ModelConfig::named(name).unwrap();
        let side = config.image_size() as i64;
        let x = Tensor::arange(2 * 3 * side * side, (Kind::Float, Device::Cpu)).sin().view([2, 3, side, side]);
        let (t, class) = (Tensor::from_slice(&[10.0_f32, 700.0]), Tensor::from_slice(&[0_i64, 2]));
        let evaluate = |recompute| {
            let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
            let mut network = config.build(parameters, Precision::F32).unwrap();
            tch::manual_seed(5);
            let _ = tch::no_grad(|| network.parameters().values().normal_(0.0, 0.1));
            network.set_recompute(recompute);
            let out = network.forward(&x, &t, Some(&class)).unwrap();
            out.square().sum(Kind::Float).backward();
            (out.detach(), network.parameters().gradients().unwrap())
        };
        let (out, gradients) = evaluate(Recompute::default());
        for recompute in [Recompute { blocks: 2, scan: true }, Recompute { blocks: 1000, scan: false }] {
            let found = evaluate(recompute);
            assert!(found.0.equal(&out), "{name}, {recompute:?}");
            // The order in which gradients of one tensor are added up differs.
            let error = (&found.1 - &gradients).abs().max().double_value(&[]);
            let largest = gradients.abs().max().double_value(&[]);
            assert!(largest > 0.0 && error <= 1e-6 * largest, "{name}, {recompute:?}: {error} of {largest}");
        }
    }
}
