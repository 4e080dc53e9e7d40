//! A run that was stopped, in whatever way, and resumed is the run that was not stopped: bit for bit.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::{Place, text, wait_while_running};

const SNAPSHOT: &str = "snapshots/000000000128.safetensors";

/// The weights at the end of a run that nothing disturbed.
fn undisturbed(place: &Place) -> Vec<u8> {
    place.train("whole", &[]);
    fs::read(place.path("whole").join(SNAPSHOT)).unwrap()
}

fn snapshot(place: &Place, run: &str) -> Vec<u8> {
    fs::read(place.path(run).join(SNAPSHOT)).unwrap()
}

/// `log.jsonl` without the times, which differ between runs.
fn log(place: &Place, run: &str) -> Vec<(u64, String, String)> {
    let text = fs::read_to_string(place.path(run).join("log.jsonl")).unwrap();
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines()
        .map(parse)
        .map(|line| (line["images_seen"].as_u64().unwrap(), line["loss"].to_string(), line["grad_norm"].to_string()))
        .collect()
}

#[test]
fn killed_run_resumes_to_the_same_bits() {
    let place = Place::new();
    let longer = ["--set", "train.images=512"]; // so that there is time to kill it, on a fast machine, too
    let snapshot = |run: &str| fs::read(place.path(run).join("snapshots/000000000512.safetensors"));
    place.train("whole", &longer);
    let expected = snapshot("whole").unwrap();
    let mut child = place.start_training("cut", &longer);
    wait_while_running(&mut child, || place.files("cut/checkpoints").len() >= 2);
    child.kill().unwrap(); // SIGKILL: nothing in the process can react
    child.wait().unwrap();
    assert!(snapshot("cut").is_err(), "the run was over before it could be killed");

    let resume = [&longer[..], &["--resume"]].concat();
    place.train("cut", &resume);
    assert!(snapshot("cut").unwrap() == expected, "the weights differ");
    // Another kill, after the end: nothing is left to do, and nothing changes.
    place.train("cut", &resume);
    assert!(snapshot("cut").unwrap() == expected, "the weights differ");
}

#[test]
fn run_killed_while_writing_a_checkpoint_resumes_from_the_one_before() {
    let place = Place::new();
    let expected = undisturbed(&place);
    place.train("cut", &["--set", "train.images=64"]);
    // What a kill in the middle of a write leaves: a temporary file, never a half checkpoint under its own name.
    let leftover = place.path("cut/checkpoints/.000000000072.safetensors-1.tmp");
    fs::write(&leftover, b"half of a check").unwrap();
    place.train("cut", &["--resume"]);
    assert!(!leftover.exists());
    assert!(snapshot(&place, "cut") == expected, "the weights differ");
}

#[test]
fn interrupted_run_says_how_to_go_on_and_resumes_to_the_same_bits() {
    let place = Place::new();
    let expected = undisturbed(&place);
    for (signal, exit_code) in [("INT", 130), ("TERM", 143)] {
        let run = format!("cut_{signal}");
        let mut child = place.start_training(&run, &["--set", "train.checkpoint_every_images=1000000"]);
        wait_while_running(&mut child, || {
            fs::metadata(place.path(&run).join("log.jsonl")).is_ok_and(|log| log.len() > 0)
        });
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(exit_code), "{}", text(&output));
        assert!(
            text(&output).contains(&format!("go on with: dim-trainer train --run {run} --resume")),
            "{}",
            text(&output)
        );
        assert_eq!(place.files(&format!("{run}/checkpoints")).len(), 1);

        let output = place.run(&["train", "--device", "cpu", "--run", &run, "--resume"]);
        assert!(output.status.success(), "{}", text(&output));
        // The metadata of the two snapshots differ in `checkpoint_every_images`; the weights behind them must not.
        let weights = |bytes: &[u8]| bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec();
        assert!(weights(&snapshot(&place, &run)) == weights(&expected), "{signal}: the weights differ");
    }
}

#[test]
fn run_on_images_of_several_sizes_resumes_to_the_same_bits() {
    let place = Place::new();
    let sizes = ["--set", "train.other_image_sizes=[4, 12]", "--set", "train.images=64"];
    place.train("whole", &sizes);
    place.train("cut", &[&sizes[..], &["--set", "train.images=20"]].concat());
    place.train("cut", &[&sizes[..], &["--resume"]].concat());
    let snapshot = |run: &str| fs::read(place.path(run).join("snapshots/000000000064.safetensors")).unwrap();
    assert!(snapshot("cut") == snapshot("whole"), "the weights differ");
    place.train("one", &["--set", "train.images=64"]);
    // Behind the metadata, which differ.
    let weights = |bytes: &[u8]| bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec();
    assert!(weights(&snapshot("one")) != weights(&snapshot("whole")), "the sizes make no difference");
    place.fails(
        &["train", "--config", "config.toml", "--run", "x", "--set", "train.other_image_sizes=[8, 5]"],
        2,
        &["sizes other than `model.image_size`, each once, got 8", "multiples of 2", "got 5"],
    );
}

#[test]
fn second_signal_ends_the_process_at_once() {
    let place = Place::new();
    // Steps that take far longer than the system needs to hand out two signals.
    let settings = ["images=1000000", "checkpoint_every_images=1000000", "batch_size=1000", "log_every_steps=1"]
        .map(|setting| format!("train.{setting}"));
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut child = place.start_training("run", &settings);
    wait_while_running(&mut child, || fs::metadata(place.path("run/log.jsonl")).is_ok_and(|log| log.len() > 0));
    // Both signals are there when the stopped process goes on, so no step can end between them.
    for signal in ["STOP", "INT", "TERM", "CONT"] {
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
    }
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    assert_eq!(place.files("run/checkpoints").len(), 0, "nothing is saved any more");
}

#[test]
fn resumed_log_is_that_of_one_run() {
    let place = Place::new();
    place.train("whole", &["--set", "train.checkpoint_every_images=12"]);
    place.train("cut", &["--set", "train.checkpoint_every_images=12", "--set", "train.images=60"]);
    // As if the process had been killed after it had logged more than it had saved.
    let log_path = place.path("cut/log.jsonl");
    let lines = fs::read_to_string(&log_path).unwrap();
    let ahead = lines.lines().last().unwrap().replace("\"images_seen\":60", "\"images_seen\":72");
    fs::write(&log_path, format!("{lines}{ahead}\n{{\"step\":19,\"ima")).unwrap();
    place.train("cut", &["--set", "train.checkpoint_every_images=12", "--resume"]);
    assert_eq!(log(&place, "cut"), log(&place, "whole"));
}

#[test]
fn longer_run_goes_on_where_the_shorter_one_ended() {
    let place = Place::new();
    let expected = undisturbed(&place);
    place.train("cut", &["--set", "train.images=52"]);
    place.train("cut", &["--resume"]);
    assert!(snapshot(&place, "cut") == expected, "the weights differ");
}

#[test]
fn averages_under_power_profiles_resume_to_the_same_bits() {
    let place = Place::new();
    let ema = ["--set", "ema.snapshot_every_images=32", "--set", "ema.update_every_steps=2"];
    place.train("whole", &ema);
    place.train("cut", &[&ema[..], &["--set", "train.images=60"]].concat());
    // What a process leaves that was killed after it had stored more averages than checkpoints.
    let ahead = place.path("cut/ema/000000000064.safetensors");
    fs::write(&ahead, b"of steps that will be taken again").unwrap();
    place.train("cut", &[&ema[..], &["--resume"]].concat());
    for file in [
        "ema/000000000064.safetensors",
        "ema/000000000128.safetensors",
        "checkpoints/000000000128.safetensors",
        SNAPSHOT,
    ] {
        let bytes = |run: &str| fs::read(place.path(run).join(file)).unwrap();
        assert!(bytes("cut") == bytes("whole"), "{file} differs");
    }
    // The averages change nothing else.
    place.train("without", &[]);
    let weights = |bytes: &[u8]| bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec();
    assert!(weights(&snapshot(&place, "without")) == weights(&snapshot(&place, "whole")), "the weights differ");
    let resume = [&common::train_arguments("without")[..], &["--resume", "--accept-changes"], &ema[..]].concat();
    place.fails(&resume, 1, &["ema.update_every_steps: there absent, here 2", "another folder"]);
}

#[test]
fn last_checkpoints_are_kept() {
    let place = Place::new();
    place.train("run", &["--set", "train.keep_checkpoints=2"]);
    let names: Vec<_> = place
        .files("run/checkpoints")
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["000000000120.safetensors", "000000000128.safetensors"]);
}

#[test]
fn changed_settings_are_refused_until_they_are_accepted() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=16"]);
    let resume = |extra: &[&'static str]| [&common::train_arguments("run")[..], &["--resume"], extra].concat();
    place.fails(&resume(&["--set", "train.lr=0.5"]), 1, &["train.lr: there 0.001, here 0.5", "--accept-changes"]);
    place.fails(
        &resume(&["--set", "model.depth=7", "--accept-changes"]),
        1,
        &["model.depth: there 5, here 7", "another folder"],
    );
    let output =
        place.train("run", &["--resume", "--accept-changes", "--set", "train.lr=0.0005", "--set", "train.images=24"]);
    assert!(output.contains("changed: train.lr: there 0.001, here 0.0005"), "{output}");
    assert!(fs::read_to_string(place.path("run/config.toml")).unwrap().contains("lr = 0.0005"));
}

#[test]
fn changed_data_are_refused_until_they_are_accepted() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=16"]);
    fs::remove_file(place.path("images/stripes/5.png")).unwrap();
    let resume = [&common::train_arguments("run")[..], &["--resume"]].concat();
    place.fails(&resume, 1, &["images found: there 12, here 11", "--accept-changes"]);
    place.train("run", &["--resume", "--accept-changes", "--set", "train.images=24"]);
}

#[test]
fn micro_batches_change_only_the_rounding() {
    let place = Place::new();
    place.train("whole", &["--set", "train.images=16"]);
    place.train("pieces", &["--set", "train.images=16", "--set", "train.micro_batch_size=1"]);
    for (one, other) in log(&place, "whole").iter().zip(log(&place, "pieces")) {
        let (loss, pieces): (f64, f64) = (one.1.parse().unwrap(), other.1.parse().unwrap());
        assert!((loss - pieces).abs() < 1e-5 * loss, "{loss} and {pieces}");
    }
    let output = place.train("whole", &["--resume", "--set", "train.micro_batch_size=2", "--set", "train.images=24"]);
    assert!(output.contains("agree to rounding, not bit for bit"), "{output}");
}

#[test]
fn run_whose_time_was_up_ends_in_order_and_can_go_on() {
    let place = Place::new();
    let expected = undisturbed(&place);
    // The limit passes during the first step, whatever the machine.
    let message = place.train("cut", &["--time-limit", "0.000001"]);
    assert!(message.contains("the time was up with 124 images left"), "{message}");
    assert_eq!(place.files("cut/snapshots").len(), 1, "what is there is usable");
    place.train("cut", &["--resume"]);
    assert!(snapshot(&place, "cut") == expected, "the weights differ");
    place.fails(&["train", "--config", "config.toml", "--time-limit", "0"], 2, &["number of minutes above 0", "`0`"]);
}

#[test]
fn blocks_that_run_again_change_no_bit_of_the_run() {
    let place = Place::new();
    place.train("whole", &["--set", "train.images=32"]);
    place.train("again", &["--set", "train.images=32", "--set", "train.recompute_blocks=2"]);
    // The settings in the metadata differ; the weights behind them must not.
    let weights = |run: &str| {
        let bytes = fs::read(place.path(run).join("snapshots/000000000032.safetensors")).unwrap();
        bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec()
    };
    assert!(weights("whole") == weights("again"), "the weights differ");
}
