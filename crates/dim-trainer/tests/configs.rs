//! The configurations that the repository ships.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dim_model::BackboneConfig;
use dim_trainer::config::{Autoencoder, AutoencoderRun, Config, RunConfig};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn load(name: &str) -> Config {
    Config::load(&folder().join(name), &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn inspect(name: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dim-trainer"))
        .args(["inspect", "--config"])
        .arg(folder().join(name))
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_configuration_parses_and_makes_sense() {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with("_autoencoder.toml") {
            AutoencoderRun::load(&folder().join(&name), &[]).unwrap_or_else(|error| panic!("{error}"));
            names.push(name);
        } else if name.ends_with(".toml") {
            load(&name);
            inspect(&name);
            names.push(name);
        }
    }
    names.sort();
    for name in [
        "cifar10_s.toml",
        "demo.toml",
        "imagenet256_h.toml",
        "imagenet256_l.toml",
        "imagenet512_h_finetune.toml",
        "openmoji_autoencoder.toml",
        "smoke.toml",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is missing");
    }
}

#[test]
fn models_have_the_papers_size_and_cost() {
    for (name, parameters, gmac, tokens) in [
        ("cifar10_s.toml", "50,568,716", "17.599", "366"),
        ("imagenet256_l.toml", "386,063,376", "137.144", "366"),
        ("imagenet256_h.toml", "862,407,184", "307.686", "366"),
        ("imagenet512_h_finetune.toml", "863,586,832", "1034.000", "1,230"),
    ] {
        let text = inspect(name);
        for needle in [parameters, gmac, tokens] {
            assert!(text.contains(needle), "{name}: {needle} is not in: {text}");
        }
    }
}

#[test]
fn inspect_takes_settings_beside_a_configuration() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_dim-trainer")).arg("inspect").args(arguments).output().unwrap()
    };
    let config = folder().join("imagenet256_h.toml");
    let config = config.to_str().unwrap();
    let output = run(&["--config", config, "--set", "model.preset=dit_xl_2"]);
    let text = String::from_utf8_lossy(&output.stdout);
    // Without the table of positions, which the published count includes.
    assert!(output.status.success() && text.contains("674,834,720") && text.contains("118."), "{text}");
    for wrong in [&["--set", "model.depth=9"][..], &["--config", config, "--run", "x"], &[]] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// Teng et al. 2024 (arXiv 2405.14224) and the authors' published settings: steps, batch size, learning rate, weight decay, betas, epsilon,
/// clipping, warm-up steps, label dropout.
#[test]
fn training_has_the_papers_settings() {
    type Settings = (u64, u64, f64, f64, (f64, f64), f64, Option<f64>, u64, f64);
    let papers: [(&str, Settings); 4] = [
        ("cifar10_s.toml", (500_000, 128, 2e-4, 0.03, (0.99, 0.999), 1e-8, None, 2_500, 1.0)),
        ("imagenet256_l.toml", (300_000, 1024, 2e-4, 0.03, (0.99, 0.99), 1e-15, Some(1.0), 5_000, 0.15)),
        ("imagenet256_h.toml", (750_000, 768, 2e-4, 0.03, (0.99, 0.99), 1e-15, Some(1.0), 5_000, 0.1)),
        ("imagenet512_h_finetune.toml", (64_000, 240, 1e-4, 0.0, (0.99, 0.99), 1e-15, Some(1.0), 2_500, 0.15)),
    ];
    for (name, expected) in papers {
        let Config { train, diffusion, .. } = load(name);
        let batch = train.batch_size as u64;
        let found = (
            train.images / batch,
            batch,
            train.lr,
            train.weight_decay,
            (train.beta1, train.beta2),
            train.eps,
            train.clip_norm,
            train.warmup_images / batch,
            diffusion.class_dropout,
        );
        assert_eq!(found, expected, "{name}");
        assert_eq!((train.images % batch, train.warmup_images % batch, train.ema_decay), (0, 0, 0.9999), "{name}");
    }
}

#[test]
fn latent_models_take_images_of_the_right_size() {
    for (name, size) in [("imagenet256_l.toml", 256), ("imagenet256_h.toml", 256), ("imagenet512_h_finetune.toml", 512)]
    {
        let config = load(name);
        assert_eq!(config.data_size(), size, "{name}");
        assert_eq!(
            config.autoencoder.as_ref().map(Autoencoder::latent_channels),
            Some(config.model.in_channels()),
            "{name}"
        );
    }
}
