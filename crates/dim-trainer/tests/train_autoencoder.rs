//! `train-autoencoder`: what it leaves, that a run that was cut is the run that was not, and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{AUTOENCODER, Place, text};
use dim_model::{AutoencoderConfig, Precision, weights::WeightFile};
use dim_trainer::{FirstStage, config};
use tch::{Device, Kind, Tensor};

fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("autoencoder.toml"), AUTOENCODER).unwrap();
    place
}

fn arguments<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let start = ["train-autoencoder", "--config", "autoencoder.toml", "--device", "cpu", "--run", run];
    [&start[..], more].concat()
}

fn train(place: &Place, run: &str, more: &[&str]) -> String {
    let output = place.run(&arguments(run, more));
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn losses(place: &Place, run: &str) -> Vec<f64> {
    let log = fs::read_to_string(place.path(run).join("log.jsonl")).unwrap();
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    log.lines().map(|line| parse(line)["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_run_that_was_cut_is_the_run_that_was_not() {
    let place = place();
    train(&place, "whole", &[]);
    train(&place, "cut", &["--set", "train.images=28"]);
    let message = train(&place, "cut", &["--resume"]);
    assert!(message.contains("resumed after 28 images"), "{message}");
    for file in [
        "snapshots/000000000024.safetensors",
        "snapshots/000000000048.safetensors",
        "checkpoints/000000000048.safetensors",
        "samples/000000000048.png",
    ] {
        let bytes = |run: &str| fs::read(place.path(run).join(file)).unwrap();
        // What a file says of its run differs in `train.images` alone, while the run is cut.
        assert!(file.contains("24") || bytes("cut") == bytes("whole"), "{file} differs");
    }
    // A smaller piece at a time changes the rounding alone.
    train(&place, "pieces", &["--set", "train.images=12", "--set", "train.micro_batch_size=1"]);
    let (whole, pieces) = (losses(&place, "whole"), losses(&place, "pieces"));
    assert!((whole[0] - pieces[0]).abs() < 1e-5 * whole[0].abs(), "{whole:?} {pieces:?}");
    // A network's run does not go on from an autoencoder's checkpoint, nor the other way round.
    place.fails(&["sample", "--run", "whole"], 1, &["kind = dim-checkpoint"]);
    let other = arguments("whole", &["--resume", "--set", "autoencoder.channels=64"]);
    place.fails(&other, 1, &["autoencoder.channels: there 32, here 64", "another folder"]);
}

/// Images of the place as the autoencoder is shown them.
fn images(place: &Place) -> Tensor {
    let source = config::Config::parse(
        include_str!("../../../configs/smoke.toml"),
        "smoke.toml",
        &["data={source='folder', path='images'}".replace("images", &place.path("images").display().to_string())],
    );
    let source = dim_data::open(&source.unwrap().data, 16).unwrap();
    let mut values = Vec::new();
    for index in 0..source.len() {
        let image = source.load(index, 16).unwrap().image;
        let start = values.len();
        values.resize(start + 3 * 16 * 16, 0.0);
        dim_data::transform::write_normalised(&image, false, &mut values[start..]).unwrap();
    }
    Tensor::from_slice(&values).view([source.len() as i64, 3, 16, 16])
}

#[test]
fn a_longer_run_reconstructs_and_its_latents_vary_as_noise_does() {
    let place = place();
    train(&place, "run", &["--set", "train.images=480"]);
    let losses = losses(&place, "run");
    assert!(losses.last().unwrap() + 0.5 < losses[0], "{losses:?}");
    let path = place.path("run/snapshots/000000000480.safetensors");
    let file = WeightFile::open(&path).unwrap();
    assert!(file.entries().iter().all(|entry| !entry.name.starts_with("loss")));
    let said: AutoencoderConfig = serde_json::from_str(&file.metadata()["autoencoder"]).unwrap();
    assert!(said.scaling_factor > 0.0 && said.scaling_factor != 1.0, "{said:?}");

    tch::set_num_threads(1);
    let section = config::Autoencoder {
        kind: None,
        weights: Some(path.clone()),
        scaling_factor: None,
        tile_above: 1024,
        sizes: Some(AutoencoderConfig { scaling_factor: 1.0, ..said.clone() }),
    };
    let stage = FirstStage::load(&path, &section, Device::Cpu, Precision::F32).unwrap();
    assert_eq!(stage.sizes().scaling_factor, said.scaling_factor);
    let images = images(&place);
    let moments = stage.encode(&images).unwrap();
    let latents = moments.sample(&Tensor::zeros_like(&moments.mean)).unwrap();
    let deviation = latents.std(false).double_value(&[]);
    assert!((0.8..1.1).contains(&deviation), "{deviation}");
    let error = |other: &Tensor| (other - &images).abs().mean(Kind::Double).double_value(&[]);
    let (reconstructed, grey) = (error(&stage.decode(&latents).unwrap()), error(&images.mean(Kind::Float)));
    assert!(reconstructed < 0.5 * grey, "{reconstructed} and {grey}");
}

#[test]
fn the_perceptual_loss_is_part_of_it() {
    let Some(weights) = common::efficientnet_weights() else { return };
    let place = place();
    let network = format!("loss.perceptual_network={weights}");
    let short = ["--set", "image_size=32", "--set", "train.images=4"];
    train(&place, "without", &short);
    train(&place, "with", &[&short[..], &["--set", "loss.perceptual_weight=1", "--set", &network]].concat());
    let (without, with) = (losses(&place, "without")[0], losses(&place, "with")[0]);
    assert!(with > without + 0.1, "{without} and {with}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = place();
    // Values that make no sense are told all at once, what does not parse by itself.
    let settings = [
        "image_size=15",
        "autoencoder.scaling_factor=0.5",
        "autoencoder.in_channels=1",
        "autoencoder.channels=40",
        "loss.kl_weight=-1",
        "loss.perceptual_weight=1",
        "train.recompute_blocks=1",
        "pictures.rows=0",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let needles = [
        "`image_size` must be a multiple of 2, the autoencoder's downsampling, got 15",
        "`autoencoder.scaling_factor` must be left out: it is measured, got 0.5",
        "`autoencoder.in_channels` must be 3, the channels of the images, got 1",
        "[autoencoder] `channels` must be a multiple of 32",
        "`loss.kl_weight` must be 0 or more, got -1",
        "`loss.perceptual_weight` must be 0 unless images have 3 channels and at least 32",
        "`train.recompute_blocks` must be 0 for an autoencoder, got 1",
        "`pictures.rows` must be from 1 to 256, got 0",
        "8 problems",
    ];
    place.fails(&arguments("run", &settings), 2, &needles);
    place.fails(&arguments("run", &["--set", "loss.kl=1"]), 2, &["unknown key `loss.kl`"]);
    let absent =
        ["--set", "image_size=32", "--set", "loss.perceptual_weight=1", "--set", "loss.perceptual_network=no.pth"];
    place.fails(&arguments("run", &absent), 2, &["no.pth", "cargo xtask setup", "loss.perceptual_weight = 0"]);
    assert_eq!(place.files("run").len(), 0);
}
