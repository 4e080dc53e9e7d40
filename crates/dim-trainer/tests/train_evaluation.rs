//! `[evaluation]`: samples are measured while a run trains, without changing what it learns.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, efficientnet_weights};
use serde_json::Value;

fn evaluations(place: &Place, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(run).join("log.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("evaluation").is_some()).collect()
}

fn add_section(place: &Place, weights: &str, more: &str) {
    let mut config = fs::read_to_string(place.path("config.toml")).unwrap();
    let reference = place.path("images").display().to_string();
    config.push_str(&format!(
        "\n[evaluation]\nevery_images = 16\nsamples = 6\nreference = \"{reference}\"\nweights = \"{weights}\"\n{more}"
    ));
    fs::write(place.path("config.toml"), config).unwrap();
}

#[test]
fn samples_are_measured_the_best_is_kept_and_training_is_the_same() {
    let Some(weights) = efficientnet_weights() else { return };
    let place = Place::new();
    let short = ["--set", "train.images=20"];
    place.train("plain", &short);
    add_section(&place, &weights, "cfg_scales = [1.0, 2.0]\nseed = 7\n");
    let said = place.train("run", &short);
    assert!(said.contains("evaluation, no guidance: ") && said.contains("evaluation, guided by 2: "), "{said}");
    let snapshot = |run: &str| fs::read(place.path(run).join("snapshots/000000000020.safetensors")).unwrap();
    // The configuration stands in the file's head; the tensors behind it are the same.
    let tensors = |bytes: Vec<u8>| {
        let head = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + head..].to_vec()
    };
    assert!(tensors(snapshot("plain")) == tensors(snapshot("run")));

    let found = evaluations(&place, "run");
    let at: Vec<(u64, f64, bool)> = found
        .iter()
        .map(|line| {
            let evaluation = &line["evaluation"];
            let (scale, guided) = (evaluation["cfg_scale"].as_f64().unwrap(), evaluation["guided"].as_bool().unwrap());
            (line["images_seen"].as_u64().unwrap(), scale, guided)
        })
        .collect();
    let expected: Vec<(u64, f64, bool)> =
        [16, 20].into_iter().flat_map(|seen| [(seen, 1.0, false), (seen, 2.0, true)]).collect();
    assert_eq!(at, expected);
    let distance = |line: &Value| line["evaluation"]["scores"]["frechet_distance"].as_f64().unwrap();
    let plain: Vec<&Value> = found.iter().filter(|line| line["evaluation"]["guided"] == false).collect();
    let best = plain.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
    let inspected = place.run(&["inspect", "--json", "run/best.safetensors"]);
    let text = String::from_utf8(inspected.stdout).unwrap();
    let seen = best["images_seen"].as_u64().unwrap();
    assert!(
        text.contains(&format!("\"{seen}\"")) || text.contains(&format!("\"images_seen\":{seen}")),
        "{seen}: {text}"
    );

    // Resumed from the middle, the run measures the same.
    fs::remove_file(place.path("run/snapshots/000000000020.safetensors")).unwrap();
    fs::remove_file(place.path("run/checkpoints/000000000020.safetensors")).unwrap();
    place.train("run", &["--resume", "--set", "train.images=20"]);
    assert_eq!(evaluations(&place, "run"), found);
}

#[test]
fn what_cannot_be_measured_is_told_before_training() {
    let Some(weights) = efficientnet_weights() else { return };
    let place = Place::new();
    add_section(&place, &weights, "");
    let train = |setting: &'static str| [&common::train_arguments("run")[..], &["--set", setting]].concat();
    place.fails(&train("evaluation.reference=nowhere"), 1, &["nowhere"]);
    place.fails(&train("evaluation.metrics=[\"kid\"]"), 2, &["evaluation.metrics", "fd"]);
    place.fails(&train("evaluation.metrics=[\"fd\", \"sfid\"]"), 2, &["--features inception"]);
    place.fails(&train("evaluation.samples=1"), 2, &["`evaluation.samples` must be at least 2, got 1"]);
    place.fails(&train("evaluation.every=1"), 2, &["unknown key `evaluation.every`", "every_images"]);
    place.fails(&train("evaluation.weights=none.pth"), 2, &["none.pth", "cargo xtask setup"]);
}
