//! Weights from one format to another, and what the program says of files.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, text};
use dim_model::weights::{self, NameTable, WeightFile};
use serde_json::Value;
use tch::{Kind, Tensor};

const SNAPSHOT: &str = "run/snapshots/000000000008.safetensors";
const CHECKPOINT: &str = "run/checkpoints/000000000008.safetensors";

fn place() -> Place {
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    place
}

fn succeeds(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn json(place: &Place, arguments: &[&str]) -> Value {
    let output = place.run(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn tensors(place: &Place, file: &str) -> Vec<(String, Tensor)> {
    let mut tensors = weights::load(place.path(file), NameTable::Dim).unwrap();
    tensors.sort_by(|one, other| one.0.cmp(&other.0));
    tensors
}

fn assert_same(place: &Place, one: &str, other: &str) {
    let (one, other) = (tensors(place, one), tensors(place, other));
    assert_eq!(one.len(), other.len());
    for ((name, tensor), (other_name, other)) in one.iter().zip(&other) {
        assert_eq!(name, other_name);
        assert!(tensor.equal(other) && tensor.kind() == other.kind(), "{name}");
    }
}

#[test]
fn weights_go_through_every_format_and_come_back_the_same() {
    let place = place();
    let printed = succeeds(&place, &["convert", SNAPSHOT, "theirs.pth", "--names", "authors"]);
    assert!(printed.contains("every bit is the same") && printed.starts_with("theirs.pth\n"), "{printed}");
    let file = WeightFile::open(place.path("theirs.pth")).unwrap();
    assert!(file.entries().iter().any(|entry| entry.name == "transformer_blocks.0.attn1.A_log"));
    assert_same(&place, SNAPSHOT, "theirs.pth");
    succeeds(&place, &["convert", "theirs.pth", "theirs.safetensors", "--names", "authors"]);
    let back = ["convert", "theirs.safetensors", "ours.safetensors", "--config", "config.toml"];
    let result = json(&place, &back);
    assert_eq!((&result["written"], &result["largest_rounding_error"]), (&"ours.safetensors".into(), &0.0.into()));
    assert_same(&place, SNAPSHOT, "ours.safetensors");
    // What was converted can be sampled from: it carries the configuration it was given.
    succeeds(&place, &["sample", "--device", "cpu", "--weights", "ours.safetensors", "--count", "1"]);

    // A checkpoint gives its average, or the weights themselves.
    succeeds(&place, &["convert", CHECKPOINT, "ema.pt"]);
    assert_same(&place, SNAPSHOT, "ema.pt");
    succeeds(&place, &["convert", CHECKPOINT, "raw.pt", "--no-ema"]);
    assert!(!tensors(&place, "raw.pt").iter().zip(&tensors(&place, "ema.pt")).all(|(raw, ema)| raw.1.equal(&ema.1)));

    // Half the bytes, and the error that this costs.
    let narrow = json(&place, &["convert", SNAPSHOT, "narrow.safetensors", "--dtype", "bf16"]);
    let error = narrow["largest_rounding_error"].as_f64().unwrap();
    assert!(error > 1e-5 && error <= 1.0 / 256.0, "{error}");
    assert!(tensors(&place, "narrow.safetensors").iter().all(|(_, tensor)| tensor.kind() == Kind::BFloat16));
    succeeds(&place, &["sample", "--device", "cpu", "--weights", "narrow.safetensors", "--count", "1"]);
}

#[test]
fn what_cannot_be_converted_is_told_and_nothing_is_replaced() {
    let place = place();
    let convert = |arguments: &[&'static str]| [&["convert", SNAPSHOT], arguments].concat();
    fs::write(place.path("there.pth"), "precious").unwrap();
    place.fails(&convert(&["there.pth"]), 2, &["there.pth is there already", "--overwrite"]);
    assert_eq!(fs::read(place.path("there.pth")).unwrap(), b"precious");
    place.fails(&convert(&[SNAPSHOT, "--overwrite"]), 2, &["another file"]);
    place.fails(&convert(&["nowhere/a.pth"]), 1, &["nowhere/a.pth"]);
    place.fails(&convert(&["vae", "--names", "diffusers"]), 2, &["is no autoencoder"]);
    place.fails(&convert(&["a.pth", "--no-ema"]), 2, &["--no-ema", "no checkpoint"]);
    place.fails(&["convert", "images/ring/0.png", "a.pth"], 1, &["0.png", "holds no weights"]);
    place.fails(&["convert", "nowhere.pth", "a.pth"], 1, &["nowhere.pth"]);

    // Weights that lack a tensor and have a stranger: told with a configuration, and the stranger without one.
    let mut named = tensors(&place, SNAPSHOT);
    named.retain(|(name, _)| name != "norm_out.weight");
    named.push(("spare.weight".to_owned(), Tensor::from_slice(&[1e30_f32])));
    Tensor::write_safetensors(&named, place.path("wrong.safetensors")).unwrap();
    let wrong = ["convert", "wrong.safetensors", "a.pth"];
    place.fails(
        &[&wrong[..], &["--config", "config.toml"]].concat(),
        1,
        &["norm_out.weight", "spare.weight", "missing"],
    );
    place.fails(&wrong, 1, &["spare.weight", "no DiM has"]);
    named.pop();
    named[0].1 = named[0].1.ones_like() * 1e30;
    Tensor::write_safetensors(&named, place.path("large.safetensors")).unwrap();
    let large = named[0].0.clone();
    place.fails(&["convert", "large.safetensors", "a.pth", "--dtype", "f16"], 1, &["infinite", &large, "bf16"]);
    assert!(!place.path("a.pth").exists());
}

#[test]
fn any_file_is_told_by_its_content() {
    let place = place();
    succeeds(&place, &["sample", "--device", "cpu", "--run", "run", "--count", "2", "--folder", "drawn"]);
    succeeds(&place, &["convert", SNAPSHOT, "theirs.pth", "--names", "authors"]);
    for (path, what) in [
        ("config.toml", "configuration"),
        ("run", "run"),
        (SNAPSHOT, "weights with their configuration"),
        (CHECKPOINT, "checkpoint"),
        ("theirs.pth", "weights of a DiM"),
        ("run/log.jsonl", "log"),
        ("drawn", "pictures"),
        ("drawn/000001.png", "picture"),
        ("images/ring/0.png", "picture"),
    ] {
        let found = json(&place, &["inspect", path]);
        assert_eq!((&found["what"], &found["path"]), (&what.into(), &path.into()));
        match what {
            "configuration" | "run" => assert!(found["multiply_accumulates"]["all"].as_u64().unwrap() > 0),
            "picture" => assert_eq!(found["parameters"].is_null(), path.starts_with("images"), "{path}"),
            "log" => assert_eq!(found["last"]["images_seen"], 8),
            "pictures" => assert_eq!((&found["pictures"], &found["parameters"]["index"]), (&2.into(), &0.into())),
            _ => assert!(found["tensors"][0]["shape"].is_array() && found["format"].is_string()),
        }
    }
    let shown = succeeds(&place, &["inspect", "theirs.pth"]);
    assert!(shown.contains("under the authors' names") && shown.contains("PyTorch"), "{shown}");
    fs::write(place.path("notes.txt"), "nothing of interest").unwrap();
    place.fails(&["inspect", "notes.txt"], 1, &["notes.txt", "nothing that this program knows", "TOML"]);
    place.fails(&["inspect", "images/ring/.."], 1, &["nothing that this program knows", "folder of a run"]);
    place.fails(&["inspect", "nowhere"], 1, &["nowhere"]);
    fs::write(place.path("half.png"), &fs::read(place.path("images/ring/0.png")).unwrap()[..30]).unwrap();
    place.fails(&["inspect", "half.png"], 1, &["half.png"]);
}

#[test]
fn shells_and_manuals_know_the_command_line() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeds(&place, &["completions", shell]);
        assert!(script.contains("guidance-interval") && script.contains("convert"), "{shell}");
    }
    place.fails(&["completions", "cmd"], 2, &["cmd", "bash"]);
    let printed = succeeds(&place, &["man", "--out", "man/man1"]);
    assert!(printed.contains("man/man1/dim-trainer-sample.1"), "{printed}");
    let page = fs::read_to_string(place.path("man/man1/dim-trainer-sample.1")).unwrap();
    for needle in [".TH", "dim-trainer", "guidance", "Seed of the noise"] {
        assert!(page.contains(needle), "{needle}: {page}");
    }
    let page = fs::read_to_string(place.path("man/man1/dim-trainer.1")).unwrap();
    assert!(page.contains("convert") && page.contains("inspect"), "{page}");
    fs::write(place.path("file"), "").unwrap();
    place.fails(&["man", "--out", "file"], 1, &["cannot write file"]);
}
