//! Samples, and the logs and pictures of a run.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, picture, text};

fn sample(place: &Place, arguments: &[&str]) -> (u32, u32, Vec<u8>) {
    let output = place.run(&[&["sample", "--device", "cpu", "--out", "out.png"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert!(String::from_utf8_lossy(&output.stdout).trim_end().ends_with("out.png"));
    picture(&place.path("out.png"))
}

#[test]
fn run_and_snapshot_draw_the_same_samples_as_the_end_of_training() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=32", "--set", "sample.every_images=16"]);
    let while_training = picture(&place.path("run/samples/000000000032.png"));
    assert!(place.path("run/samples/000000000016.png").exists());
    assert_eq!((while_training.0, while_training.1), (18, 8));
    assert_eq!(sample(&place, &["--run", "run"]), while_training);
    assert_eq!(sample(&place, &["--weights", "run/snapshots/000000000032.safetensors"]), while_training);
    assert_eq!(sample(&place, &["--weights", "run/checkpoints/000000000032.safetensors"]), while_training);
    assert_eq!(sample(&place, &["--run", "run", "--batch-size", "1", "--class", "ring,stripes"]), while_training);
    assert_eq!(sample(&place, &["--run", "run", "--class", "RING,1"]), while_training);
    for other in [
        &["--no-ema"][..],
        &["--seed", "9"],
        &["--class", "1,0"],
        &["--cfg-scale", "4"],
        &["--cfg-scale", "4", "--guidance-interval", "100-600"],
        &["--cfg-scale", "4", "--guidance-rescale", "0.7"],
        &["--steps", "5"],
        &["--sampler", "ddim", "--steps", "3"],
        &["--sampler", "ddim", "--steps", "3", "--eta", "0.5"],
    ] {
        assert_ne!(sample(&place, &[&["--run", "run"], other].concat()), while_training, "{other:?}");
    }
}

#[test]
fn any_count_and_rectangle_of_patches_can_be_drawn() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    for sampler in [
        "dpm++",
        "dpm",
        "dpm++2m",
        "dpm++2m-sde",
        "unipc",
        "heun",
        "euler",
        "flow-euler",
        "flow-heun",
        "ddim",
        "ancestral",
        "euler-ancestral",
        "euler-maruyama",
    ] {
        let (width, height, _) =
            sample(&place, &["--run", "run", "--sampler", sampler, "--steps", "2", "--size", "4x6", "--count", "5"]);
        assert_eq!((width, height), (3 * 6 + 2 * 2, 2 * 4 + 2), "{sampler}");
    }
}

#[test]
fn images_are_drawn_larger_than_they_were_trained() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    let larger = sample(&place, &["--run", "run", "--upsample", "2", "--count", "1", "--steps", "4"]);
    assert_eq!((larger.0, larger.1), (16, 16));
    let plain = sample(&place, &["--run", "run", "--size", "16x16", "--count", "1", "--steps", "4"]);
    assert_ne!(larger, plain, "the guidance changes the picture");
    let rectangle = ["--run", "run", "--upsample", "3", "--size", "12x24", "--count", "1", "--steps", "4"];
    assert_eq!((sample(&place, &rectangle).0, sample(&place, &rectangle).1), (24, 12));
    place.fails(
        &["sample", "--run", "run", "--upsample", "2", "--size", "10x16"],
        2,
        &["--size 10x16", "multiples of 4"],
    );
    place.train("sde", &["--set", "train.images=8", "--set", "diffusion.schedule=vp_sde"]);
    place.fails(&["sample", "--run", "sde", "--upsample", "2"], 2, &["--upsample", "vp_sde"]);
}

#[test]
fn what_a_network_predicts_is_known_to_its_run_and_its_weights() {
    for settings in [
        &["diffusion.prediction=x0", "diffusion.loss_weight.min_snr.gamma=5"][..],
        &["diffusion.prediction=v"],
        &["diffusion.prediction=flow", "diffusion.schedule=flow", "diffusion.time_shift=2"],
        &["diffusion.prediction=v", "diffusion.schedule=flow", "diffusion.time_sampling.logit_normal.mean=0.2"],
    ] {
        let place = Place::new();
        let settings = [settings, &["train.images=16", "sample.every_images=16"]].concat();
        let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        place.train("run", &arguments);
        let while_training = picture(&place.path("run/samples/000000000016.png"));
        assert_eq!(sample(&place, &["--run", "run"]), while_training, "{settings:?}");
        let weights = "run/snapshots/000000000016.safetensors";
        assert_eq!(sample(&place, &["--weights", weights]), while_training, "{settings:?}");
        // The same weights, taken for those of a network that predicts something else, draw something else.
        assert_ne!(sample(&place, &["--weights", weights, "--config", "config.toml"]), while_training, "{settings:?}");
    }
}

#[test]
fn time_shift_follows_the_size_of_the_images() {
    let place = Place::new();
    place.train(
        "run",
        &["--set", "train.images=8", "--set", "diffusion.schedule=flow", "--set", "diffusion.time_shift=1.5"],
    );
    let drawn = |arguments: &[&str]| sample(&place, &[&["--run", "run", "--count", "1"], arguments].concat());
    assert_eq!(drawn(&[]), drawn(&["--time-shift", "1.5"]));
    assert_ne!(drawn(&[]), drawn(&["--time-shift", "3"]));
    assert_eq!(drawn(&["--size", "8x32"]), drawn(&["--size", "8x32", "--time-shift", "3"]));
    place.fails(&["sample", "--run", "run", "--time-shift", "-1"], 2, &["--time-shift -1", "above 0"]);
    let (upsampled, naive) = (drawn(&["--upsample", "2"]), drawn(&["--size", "16x16"]));
    assert_eq!((upsampled.0, upsampled.1), (16, 16));
    assert_ne!(upsampled, naive);
    let settings = ["--set", "train.images=8", "--set", "diffusion.schedule=vp_sde"];
    place.train("vp", &settings);
    place.fails(&["sample", "--run", "vp", "--upsample", "2"], 2, &["--upsample", "schedule vp_sde"]);
    place.train("sd", &["--set", "train.images=8"]);
    place.fails(&["sample", "--run", "sd", "--time-shift", "2"], 2, &["--time-shift 2", "schedule flow"]);
}

#[test]
fn network_without_classes_is_trained_and_sampled() {
    let place = Place::new();
    place.train(
        "run",
        &[
            "--set",
            "train.images=8",
            "--set",
            "diffusion.class_dropout=1.0",
            "--set",
            "sample.cfg_scale=1.0",
            "--set",
            "sample.every_images=8",
        ],
    );
    assert_eq!(sample(&place, &["--run", "run"]), picture(&place.path("run/samples/000000000008.png")));
    place.fails(&["sample", "--run", "run", "--class", "0"], 2, &["--class 0", "without classes"]);
    place.fails(&["sample", "--run", "run", "--cfg-scale", "2"], 2, &["--cfg-scale 2", "without classes"]);
}

#[test]
fn other_networks_are_trained_resumed_and_sampled_as_dim_is() {
    for preset in ["dit_tiny", "uvit_tiny", "unet_tiny"] {
        let place = Place::new();
        let settings = [
            format!("model.preset={preset}"),
            "model.classes=2".into(),
            "model.null_class=true".into(),
            "sample.every_images=16".into(),
        ]
        .map(|setting| setting);
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
        place.train("whole", &[&settings[..], &["--set", "train.images=16"]].concat());
        place.train("cut", &[&settings[..], &["--set", "train.images=8"]].concat());
        place.train("cut", &[&settings[..], &["--set", "train.images=16", "--resume"]].concat());
        let snapshot = |run: &str| fs::read(place.path(run).join("snapshots/000000000016.safetensors")).unwrap();
        assert!(snapshot("whole") == snapshot("cut"), "{preset}: the weights differ");
        let drawn = picture(&place.path("whole/samples/000000000016.png"));
        assert_eq!(sample(&place, &["--weights", "whole/snapshots/000000000016.safetensors"]), drawn, "{preset}");
        place.fails(
            &["sample", "--weights", "whole/snapshots/000000000016.safetensors", "--size", "9x8"],
            2,
            &["multiple"],
        );
    }
}

#[test]
fn training_starts_from_given_weights() {
    let place = Place::new();
    place.train("first", &["--set", "train.images=8"]);
    place.train(
        "second",
        &["--set", "train.images=4", "--set", "train.initial_weights=first/snapshots/000000000008.safetensors"],
    );
    // With warm-up the first step has rate 0, so one step leaves the weights as they were.
    let weights = |run: &str| {
        let bytes = fs::read(place.files(&format!("{run}/snapshots")).pop().unwrap()).unwrap();
        bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec()
    };
    assert!(weights("first") == weights("second"), "the weights were changed");
    // Weak to strong: larger images and other padding, from the average in a snapshot or in a checkpoint.
    let strong = |run: &str, file: &str| {
        let from = format!("train.initial_weights=first/{file}/000000000008.safetensors");
        let settings = ["train.images=4", "model.image_size=16", "model.padding=rho", "diffusion.prediction=v", &from];
        place.train(run, &settings.iter().flat_map(|setting| ["--set", *setting]).collect::<Vec<_>>())
    };
    let output = strong("third", "snapshots");
    assert!(output.contains("diffusion.prediction: there \"epsilon\", here \"v\""), "{output}");
    strong("fourth", "checkpoints");
    assert!(weights("third").len() > weights("first").len());
    assert!(weights("third") == weights("fourth"), "a checkpoint gives other weights than a snapshot");
    place.fails(
        &[&common::train_arguments("fifth")[..], &["--set", "train.initial_weights=nowhere.pth"]].concat(),
        1,
        &["nowhere.pth"],
    );
}

#[test]
fn runs_and_weights_are_described() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    let run = text(&place.run(&["inspect", "--run", "run"]));
    assert!(run.contains("step 2, 8 of 8 images, good"), "{run}");
    let config = text(&place.run(&["inspect", "--config", "config.toml"]));
    let weights = text(&place.run(&["inspect", "--weights", "run/snapshots/000000000008.safetensors"]));
    let total = config.lines().find(|line| line.starts_with("all ")).unwrap();
    assert!(weights.contains(total) && run.contains(total) && weights.contains("GMAC"), "{weights}");
}

#[test]
fn event_file_holds_scalars_and_pictures() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=32", "--set", "sample.every_images=16"]);
    let events = place.files("run").into_iter().find(|path| path.to_string_lossy().contains(".tfevents.")).unwrap();
    let bytes = fs::read(events).unwrap();
    for needle in [&b"brain.Event:2"[..], b"loss", b"grad_norm", b"images_per_s", b"samples", b"\x89PNG"] {
        assert!(bytes.windows(needle.len()).any(|window| window == needle), "{}", String::from_utf8_lossy(needle));
    }
}
