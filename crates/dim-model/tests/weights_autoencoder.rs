//! An autoencoder saved under each of its names loads to the same output.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, path::Path};

use dim_model::{
    Autoencoder, AutoencoderConfig,
    weights::{
        self, Naming, WeightFile,
        diffusers::{AttentionNames, to_diffusers},
    },
};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor, no_grad};

/// Attention at a level besides the middle, so that its names are seen too.
fn config() -> AutoencoderConfig {
    AutoencoderConfig { channel_mult: vec![1, 2, 1], attention_downsampling: vec![4], ..AutoencoderConfig::tiny() }
}

fn network() -> Autoencoder {
    let specs = config().parameter_specs();
    tch::manual_seed(3);
    let flat = Parameters::zeros(&specs, Device::Cpu).unwrap().values().randn_like() * 0.1;
    Autoencoder::new(config(), Parameters::from_flat(&specs, flat).unwrap()).unwrap()
}

fn named(network: &Autoencoder) -> Vec<(String, Tensor)> {
    network.parameters().iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach())).collect()
}

/// What both directions give.
fn results(network: &Autoencoder) -> [Tensor; 2] {
    let image = Tensor::linspace(-1.0, 1.0, 3 * 8 * 12, (Kind::Float, Device::Cpu)).view([1, 3, 8, 12]);
    let latent = Tensor::linspace(-2.0, 2.0, 4 * 2 * 3, (Kind::Float, Device::Cpu)).view([1, 4, 2, 3]);
    no_grad(|| [network.encode(&image).unwrap().mean, network.decode(&latent).unwrap()])
}

fn assert_loads(path: &Path, tensors: Vec<(String, Tensor)>, expected: &[Tensor; 2], case: &str) {
    weights::save(path, tensors, Naming::Ours, &BTreeMap::new()).unwrap();
    let specs = config().parameter_specs();
    for one_at_a_time in [true, false] {
        let parameters = Parameters::zeros(&specs, Device::Cpu).unwrap();
        if one_at_a_time {
            weights::assign_file(&parameters, WeightFile::open(path).unwrap(), config().name_table()).unwrap();
        } else {
            weights::assign(&parameters, &weights::load(path, config().name_table()).unwrap()).unwrap();
        }
        let loaded = results(&Autoencoder::new(config(), parameters).unwrap());
        for (ours, expected) in loaded.iter().zip(expected) {
            assert!(ours.equal(expected), "{case}, one at a time: {one_at_a_time}");
        }
    }
}

#[test]
fn every_naming_loads_to_the_same_output() {
    let network = network();
    let expected = results(&network);
    assert!(expected.iter().all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("autoencoder.safetensors");

    assert_loads(&path, named(&network), &expected, "published");
    let prefixed = |prefix: &str| named(&network).into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)).collect();
    assert_loads(&path, prefixed("module."), &expected, "published behind a prefix");

    let other = || Tensor::ones([2], (Kind::Float, Device::Cpu));
    let mut trained = named(&network);
    trained.push(("loss.discriminator.main.0.weight".into(), other()));
    assert_loads(&path, trained, &expected, "with losses");

    let mut whole: Vec<_> = prefixed("first_stage_model.");
    for key in
        ["betas", "model.diffusion_model.out.2.bias", "cond_stage_model.encoder.bias", "first_stage_model.loss.x"]
    {
        whole.push((key.into(), other()));
    }
    whole.push(("model_ema.num_updates".into(), Tensor::from_slice(&[7_i64])));
    assert_loads(&path, whole, &expected, "within Stable Diffusion");

    for attention in [AttentionNames::Newer, AttentionNames::Older] {
        let tensors = named(&network).into_iter().map(|(name, tensor)| {
            let (name, tensor) = to_diffusers(&name, &tensor, config().channel_mult.len(), attention).unwrap();
            (name, tensor.contiguous())
        });
        assert_loads(&path, tensors.collect(), &expected, &format!("diffusers, {attention:?}"));
    }
}

#[test]
fn a_file_that_lacks_a_tensor_or_has_a_stranger_is_refused() {
    let network = network();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("autoencoder.safetensors");
    let mut tensors = named(&network);
    let (missing, _) = tensors.remove(0);
    tensors.push(("encoder.extra.weight".into(), Tensor::ones([2], (Kind::Float, Device::Cpu))));
    weights::save(&path, tensors, Naming::Ours, &BTreeMap::new()).unwrap();
    let parameters = Parameters::zeros(&config().parameter_specs(), Device::Cpu).unwrap();
    let file = WeightFile::open(&path).unwrap();
    let error = weights::assign_file(&parameters, file, config().name_table()).unwrap_err().to_string();
    assert!(error.contains(&missing) && error.contains("encoder.extra.weight"), "{error}");
}
