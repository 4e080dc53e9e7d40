//! Networks that work on latents: their pictures go through an autoencoder.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Place, text};
use dim_model::weights::{self, NameTable, Naming, PublishedNames, WeightFile, save_parameters};
use dim_model::{AutoencoderConfig, BackboneConfig, DimConfig, ModelConfig, Precision};
use dim_torch::Parameters;
use dim_trainer::{FirstStage, Network, config, grid};
use tch::{Device, Kind, Tensor};

/// Four channels, half the size of the image.
fn sizes() -> AutoencoderConfig {
    AutoencoderConfig { channel_mult: vec![1, 1], ..AutoencoderConfig::tiny() }
}

fn section() -> config::Autoencoder {
    config::Autoencoder { kind: None, weights: None, scaling_factor: None, tile_above: 1024, sizes: Some(sizes()) }
}

fn filled(specs: &[dim_torch::ParameterSpec]) -> Parameters {
    let parameters = Parameters::zeros(specs, Device::Cpu).unwrap();
    let values = parameters.values();
    let waves = Tensor::arange(values.numel() as i64, (Kind::Float, Device::Cpu)).sin() * 0.1;
    tch::no_grad(|| values.shallow_clone().copy_(&waves));
    parameters
}

fn save(path: &Path, parameters: &Parameters, naming: Naming) {
    save_parameters(path, parameters, naming, &BTreeMap::new()).unwrap();
}

/// A folder with `latents.toml` for a network of two classes on 4 × 8 × 8 latents, its `network.safetensors` under the authors'
/// names, and `autoencoder.safetensors`.
fn place() -> Place {
    let place = Place::new();
    let text = fs::read_to_string(place.path("config.toml")).unwrap();
    let section = format!(
        "classes = 2\nin_channels = 4\n[autoencoder]\n[autoencoder.sizes]\n{}",
        toml::to_string(&sizes()).unwrap()
    );
    fs::write(place.path("latents.toml"), text.replace("classes = 2", &section)).unwrap();
    let model = ModelConfig::Dim(DimConfig { in_channels: 4, classes: 2, ..DimConfig::tiny() });
    let parameters = Parameters::zeros(&model.parameter_specs(), Device::Cpu).unwrap();
    let network = Network::new(model, parameters, Precision::F32).unwrap();
    network.initialise(7).unwrap();
    save(&place.path("network.safetensors"), network.parameters(), Naming::Authors);
    save(&place.path("autoencoder.safetensors"), &filled(&sizes().parameter_specs()), Naming::Ours);
    place
}

const SAMPLE: [&str; 7] = ["sample", "--device", "cpu", "--weights", "network.safetensors", "--config", "latents.toml"];

fn sample(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(&[&SAMPLE[..], arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn read_latents(path: &Path) -> BTreeMap<String, Tensor> {
    let names = NameTable::AsPublished(&PublishedNames { first_parts: &["latents", "classes"], computed: &[] });
    weights::load(path, names).unwrap().into_iter().collect()
}

#[test]
fn latents_are_drawn_and_decoded_to_pictures() {
    let place = place();
    let both = ["--autoencoder", "autoencoder.safetensors", "--latents", "latents.safetensors", "--class", "1,0"];
    let printed = sample(&place, &[&both[..], &["--out", "out.png"]].concat());
    assert!(printed.contains("latents.safetensors") && printed.contains("out.png"), "{printed}");

    let tensors = read_latents(&place.path("latents.safetensors"));
    assert_eq!(tensors["latents"].size(), [2, 4, 8, 8]);
    assert_eq!(Vec::<i64>::try_from(&tensors["classes"]).unwrap(), [1, 0]);
    let file = place.path("autoencoder.safetensors");
    let stage = FirstStage::load(&file, &section(), Device::Cpu, Precision::F32).unwrap();
    let images = stage.decode(&tensors["latents"]).unwrap();
    assert_eq!(images.size(), [2, 3, 16, 16]);
    fs::write(place.path("expected.png"), grid(&images, 2).unwrap().png).unwrap();
    let (drawn, expected) = (common::picture(&place.path("out.png")), common::picture(&place.path("expected.png")));
    assert!(drawn == expected, "not the latents' pictures");
}

/// The pixels of the picture that latents give through this autoencoder.
fn decoded(place: &Place, autoencoder: &str) -> (u32, u32, Vec<u8>) {
    sample(place, &["--autoencoder", autoencoder, "--count", "1", "--out", "out.png"]);
    common::picture(&place.path("out.png"))
}

#[test]
fn an_autoencoder_goes_through_every_format_and_gives_the_same_pictures() {
    let place = place();
    let expected = decoded(&place, "autoencoder.safetensors");
    let convert = |arguments: &[&str]| {
        let output = place.run(&[&["convert"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    // A folder as diffusers makes it, and from there to the published names, pickled.
    let config = ["--config", "latents.toml"];
    convert(&[&["autoencoder.safetensors", "vae", "--names", "diffusers"], &config[..]].concat());
    let file = WeightFile::open(place.path("vae/diffusion_pytorch_model.safetensors")).unwrap();
    assert!(file.entries().iter().any(|entry| entry.name == "decoder.mid_block.attentions.0.to_out.0.weight"));
    let written: serde_json::Value = serde_json::from_slice(&fs::read(place.path("vae/config.json")).unwrap()).unwrap();
    assert_eq!((&written["_class_name"], &written["layers_per_block"]), (&"AutoencoderKL".into(), &1.into()));
    assert_eq!(written["block_out_channels"], serde_json::json!([32, 32]));
    assert!(decoded(&place, "vae") == expected, "diffusers' folder");
    convert(&["vae", "autoencoder_kl.pth"]);
    assert!(decoded(&place, "autoencoder_kl.pth") == expected, "pickled");
    let shown = text(&place.run(&["inspect", "vae"]));
    assert!(shown.contains("autoencoder, safetensors") && shown.contains("under diffusers' names"), "{shown}");

    let with = |folder: &'static str| [&SAMPLE[..], &["--autoencoder", folder]].concat();
    place.fails(&["convert", "vae", "b.pth", "--names", "diffusers"], 2, &["writes a folder"]);
    place.fails(&["convert", "autoencoder.safetensors", "b.pth"], 1, &["another autoencoder", "--config", "missing"]);
    fs::write(place.path("vae/config.json"), "{\"_class_name\": \"VQModel\"}").unwrap();
    place.fails(&with("vae"), 1, &["config.json", "AutoencoderKL"]);
    place.fails(&with("images"), 1, &["images/config.json"]);
}

#[test]
fn the_configuration_may_name_the_autoencoder_and_sizes_are_those_of_pictures() {
    let place = place();
    let text = fs::read_to_string(place.path("latents.toml")).unwrap();
    let named = text.replace("[autoencoder]", "[autoencoder]\nweights = \"autoencoder.safetensors\"");
    fs::write(place.path("latents.toml"), named).unwrap();
    sample(&place, &["--latents", "latents.safetensors", "--size", "24x32", "--count", "1"]);
    assert_eq!(read_latents(&place.path("latents.safetensors"))["latents"].size(), [1, 4, 12, 16]);
    assert!(place.path("samples.png").exists());
    let wrong = [&SAMPLE[..], &["--size", "22x32"]].concat();
    place.fails(&wrong, 2, &["--size 22x32", "multiples of 4", "times 2, the factor of its autoencoder"]);
}

#[test]
fn without_an_autoencoder_latents_can_be_written_and_pictures_cannot() {
    let place = place();
    place.fails(&SAMPLE, 2, &["draws latents", "--autoencoder FILE", "autoencoder.weights", "--latents FILE"]);
    let printed = sample(&place, &["--latents", "latents.safetensors"]);
    assert!(!printed.contains("png") && !place.path("samples.png").exists(), "{printed}");
    assert!(place.path("latents.safetensors").exists());
}

#[test]
fn autoencoders_that_do_not_fit_are_refused_before_anything_is_drawn() {
    let place = place();
    let with = |file: &'static str| [&SAMPLE[..], &["--autoencoder", file]].concat();
    place.fails(&with("nowhere.pth"), 1, &["nowhere.pth"]);
    place.fails(&with("network.safetensors"), 1, &["missing", "encoder.conv_in.weight"]);
    let bytes = fs::read(place.path("autoencoder.safetensors")).unwrap();
    fs::write(place.path("cut.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    place.fails(&with("cut.safetensors"), 1, &["cut.safetensors", "truncated"]);

    place.train("pixels", &["--set", "train.images=8"]);
    let pixels = ["sample", "--device", "cpu", "--run", "pixels"];
    place.fails(&[&pixels[..], &["--autoencoder", "autoencoder.safetensors"]].concat(), 2, &["draws pixels"]);
    place.fails(&[&pixels[..], &["--latents", "x.safetensors"]].concat(), 2, &["--latents x.safetensors", "pixels"]);
}
