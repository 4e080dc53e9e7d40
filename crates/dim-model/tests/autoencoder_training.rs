//! The autoencoder in training: gradients reach every parameter, also in bf16.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_model::{Autoencoder, AutoencoderConfig, Precision};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

/// The flat gradient of a reconstruction's error and divergence.
fn gradient(precision: Precision) -> Tensor {
    tch::set_num_threads(1); // tests run side by side; threads that wait for each other would only spin
    let config = AutoencoderConfig { channel_mult: vec![1, 2], scaling_factor: 1.0, ..AutoencoderConfig::tiny() };
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
    let network = Autoencoder::new(config, parameters).unwrap().with_precision(precision);
    network.initialise(5).unwrap();
    let image = Tensor::arange(2 * 3 * 16 * 16, (Kind::Float, Device::Cpu)).sin().view([2, 3, 16, 16]);
    let moments = network.encode(&image).unwrap();
    let latent = moments.sample(&Tensor::ones_like(&moments.mean)).unwrap();
    let error = (network.decode(&latent).unwrap() - &image).square().mean(Kind::Float);
    (error + moments.divergence().unwrap().mean(Kind::Float) * 1e-3).backward();
    for (spec, tensor) in network.parameters().iter() {
        // What attention's keys add to every score alike, softmax takes off again; that gradient is rounding alone.
        let seen = tensor.grad().abs().max().double_value(&[]) > 0.0;
        assert!(seen || spec.name.ends_with("attn_1.k.bias"), "{} has no gradient", spec.name);
    }
    network.parameters().gradients().unwrap()
}

#[test]
fn gradients_reach_every_parameter_and_bf16_keeps_their_direction() {
    let exact = gradient(Precision::F32);
    let rounded = gradient(Precision::Bf16);
    let product = |one: &Tensor, other: &Tensor| one.dot(other).double_value(&[]);
    let cosine = product(&exact, &rounded) / (product(&exact, &exact) * product(&rounded, &rounded)).sqrt();
    assert!(cosine > 0.99 && !exact.equal(&rounded), "{cosine}");
}
