//! The program `bench-scaling` as people use it, on networks of a few thousand parameters.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dim_report::record::{Mode, Outcome, Role, Run};

const SWEEP: &str = r#"
resolutions = [8, 16]
modes = ["forward", "sampling_step", "training_step"]
roles = ["latency", "throughput"]
seconds_per_point = 0.0
max_samples = 3

[images_at_256_px]
forward = 0.03125
sampling_step = 0.03125
training_step = 0.03125

[[models]]
name = "DiM"
preset = "tiny"
downsampling = 1

[[models]]
name = "DiT"
preset = "dit_tiny"
downsampling = 1
max_training_px = 8

[[groups]]
name = "small"
note = "for a test"
models = ["DiM", "DiT"]
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sweep.toml"), SWEEP).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bench-scaling"))
            .current_dir(self.folder.path())
            .args(["--threads", "1", "--commit", "abc"])
            .args(if arguments.contains(&"--device") { &[][..] } else { &["--device", "cpu"] })
            .args(arguments)
            .output()
            .unwrap()
    }

    fn sweep(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["--config", "sweep.toml", "--out", "out"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }

    fn fails(&self, arguments: &[&str], needles: &[&str]) {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        for needle in needles {
            assert!(text.contains(needle), "{arguments:?}: `{needle}` is not in: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

fn read(path: &Path) -> Run {
    Run::read(path).unwrap()
}

#[test]
fn sweep_measures_every_point_and_writes_its_report() {
    let place = Place::new();
    place.sweep(&[]);
    let run = read(&place.path("out/run.jsonl"));
    // Two sizes, of forward pass and sampling step in both roles, and a training step, which the transformer has at one size.
    assert_eq!(run.points.len(), 2 * (2 * 2 + 1) + 2 * (2 * 2) + 1);
    for point in &run.points {
        let measured = point.measurement().unwrap_or_else(|| panic!("{point:?}"));
        assert!(
            measured.median_ms > 0.0 && measured.peak_memory_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{point:?}"
        );
        assert!(point.macs_per_image.is_some_and(|macs| macs > 0.0) && point.floor_ms.is_some_and(|ms| ms > 0.0));
    }
    let point = run.point("DiM", Mode::Forward, Role::Throughput, 16).unwrap();
    assert_eq!((point.batch, point.tokens, point.input.as_slice()), (8, 5 + 11 * 11, &[3, 16, 16][..]));
    assert_eq!(run.header.commit, "abc");

    let page = fs::read_to_string(place.path("out/report.html")).unwrap();
    assert!(page.contains("DiT") && page.contains("Measured on a CPU"), "{}", &page[..500]);
    let summary = fs::read_to_string(place.path("out/summary.md")).unwrap();
    assert!(summary.contains("| DiM |"), "{summary}");

    // The same run is as fast as itself; another device's is not compared.
    let compare = |other: &str| place.run(&["--compare", "out/run.jsonl", "--with", other]);
    assert!(compare("out/run.jsonl").status.success());
    let text = fs::read_to_string(place.path("out/run.jsonl")).unwrap();
    let device = format!("\"device\":\"{}\"", run.header.device);
    fs::write(place.path("other.jsonl"), text.replace(&device, "\"device\":\"another\"")).unwrap();
    let output = compare("other.jsonl");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another"));
}

#[test]
fn sweep_that_was_stopped_goes_on_and_what_is_there_is_never_lost() {
    let place = Place::new();
    place.sweep(&["--only", "DiM"]);
    let path = place.path("out/run.jsonl");
    let first = fs::read_to_string(&path).unwrap();
    place.fails(&["--config", "sweep.toml", "--out", "out"], &["out/run.jsonl", "--resume"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), first);

    // As if the process had been killed in the middle of a line.
    let torn = &first[..first.len() - 40];
    fs::write(&path, torn).unwrap();
    let text = place.sweep(&["--resume"]);
    assert!(text.contains("[19/19]") && !text.contains("[9/19]"), "{text}");
    let run = read(&path);
    assert_eq!(run.points.len(), 19);
    let kept: Vec<&str> = torn.lines().take(5).collect();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().take(5).collect::<Vec<_>>(), kept);

    fs::write(place.path("sweep.toml"), SWEEP.replace("max_samples = 3", "max_samples = 4")).unwrap();
    place.fails(&["--config", "sweep.toml", "--out", "out", "--resume"], &["another sweep"]);
}

#[test]
fn point_that_would_take_too_long_is_passed_over_with_the_reason() {
    let place = Place::new();
    place.sweep(&["--longest-run", "0", "--only", "DiT"]);
    let run = read(&place.path("out/run.jsonl"));
    let outcome = |px| &run.point("DiT", Mode::Forward, Role::Latency, px).unwrap().outcome;
    assert!(matches!(outcome(8), Outcome::Measured(_)));
    assert!(matches!(outcome(16), Outcome::Skipped));
    let note = run.point("DiT", Mode::Forward, Role::Latency, 16).unwrap().note.clone().unwrap();
    assert!(note.contains("the limit is 0 s"), "{note}");
}

#[test]
fn bad_input_is_named() {
    let place = Place::new();
    place.fails(&["--config", "none.toml"], &["cannot read none.toml"]);
    fs::write(place.path("bad.toml"), SWEEP.replace("dit_tiny", "dit_tinny")).unwrap();
    place.fails(&["--config", "bad.toml"], &["bad.toml does not work", "DiT: unknown preset `dit_tinny`"]);
    fs::write(place.path("odd.toml"), SWEEP.replace("[8, 16]", "[8, 9]")).unwrap();
    place.fails(&["--config", "odd.toml"], &["no multiple of 2"]);
    place.fails(&["--quick", "--device", "cuda:99", "--out", "x"], &["the measuring process"]);
    assert!(!place.path("x/run.jsonl").exists());
    place.fails(&["--report", "--out", "none"], &["none/run.jsonl"]);
    place.fails(&["--compare", "none.jsonl", "--quick"], &["none.jsonl"]);
}
