//! `report`: the page of runs as they are found, finished or not, of either kind; and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{AUTOENCODER, Place, text};
use serde_json::Value;

fn page(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(&[&["report"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    let path = String::from_utf8(output.stdout).unwrap();
    fs::read_to_string(place.path(path.trim())).unwrap()
}

fn sessions(place: &Place, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(run).join("sessions.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn run_is_shown_while_it_is_cut_short_resumed_and_finished_and_beside_another() {
    let place = Place::new();
    let pictures = ["--set", "sample.every_images=8", "--set", "train.images=24"];
    place.train("run", &[&pictures[..], &["--time-limit", "0.0001"]].concat());
    let cut = page(&place, &["run"]);
    for needle in [
        "Training: run",
        "A DiM of ",
        "images of 8 x 8 pixels of 2 classes",
        "stopped after 4 of 24 images (the time was up)",
        "differs from tiny",
        "<th scope=\"row\">model.classes</th>",
        "dim-trainer ",
        "12 images of 2 classes",
        "sample.every_images=8",
        "checkpoints/000000000004.safetensors",
    ] {
        assert!(cut.contains(needle), "{needle}: {cut}");
    }
    place.train("run", &[&pictures[..], &["--resume"]].concat());
    let whole = page(&place, &["run", "--out", "whole.html"]);
    assert!(whole.contains("finished after 24 images"));
    // One of the first sitting's end, and every 8 images.
    assert_eq!(whole.matches("data:image/png;base64,").count(), 4);
    assert!(whole.contains("went on after 4 images"));
    let found = sessions(&place, "run");
    let seen: Vec<u64> = found.iter().map(|line| line["images_seen"].as_u64().unwrap()).collect();
    assert_eq!(seen, [0, 4, 4, 24]);
    assert_eq!((&found[1]["reason"], &found[3]["reason"]), (&"time_is_up".into(), &"finished".into()));
    let begun = &found[2];
    assert_eq!((&begun["device"], &begun["threads"], &begun["processes"]), (&"cpu".into(), &1.into(), &1.into()));
    assert_eq!((&begun["precision"], &begun["images_found"]), (&"f32".into(), &12.into()));

    fs::remove_file(place.path("run/snapshots/000000000024.safetensors")).unwrap();
    assert!(page(&place, &["run"]).contains("finished after 24 images"), "as a copy without its large files");

    // A process that was killed leaves half a line, and no end.
    fs::remove_file(place.path("run/sessions.jsonl")).unwrap();
    let log = fs::read_to_string(place.path("run/log.jsonl")).unwrap();
    fs::write(place.path("run/log.jsonl"), log.clone() + "{\"step\":7,").unwrap();
    let killed = page(&place, &["run"]);
    for needle in ["all 24 images seen, but neither", "last line of the log is not whole", "Not recorded"] {
        assert!(killed.contains(needle), "{needle}");
    }

    place.train("other", &["--set", "train.images=8", "--set", "train.lr=0.5"]);
    let both = page(&place, &["run", "other"]);
    assert!(place.path("report.html").exists() && both.contains("Training: run, other"));
    for needle in ["<th scope=\"row\">train.lr</th><td>0.001</td><td>0.5</td>", "data-model=\"1\""] {
        assert!(both.contains(needle), "{needle}");
    }

    fs::write(place.path("run/log.jsonl"), format!("{log}nonsense\n{log}")).unwrap();
    place.fails(&["report", "run"], 1, &["run/log.jsonl: line ", "is no record of training"]);
    fs::write(place.path("run/log.jsonl"), "").unwrap();
    place.fails(&["report", "run"], 1, &["run: expected the folder of a run", "an empty log"]);
    fs::remove_file(place.path("run/log.jsonl")).unwrap();
    place.fails(&["report", "run"], 1, &["which has a log.jsonl; got one without"]);
}

#[test]
fn run_of_an_autoencoder_is_shown() {
    let place = Place::new();
    fs::write(place.path("autoencoder.toml"), AUTOENCODER).unwrap();
    let short = ["--set", "train.images=8", "--set", "pictures.every_images=8"];
    let train = ["train-autoencoder", "--config", "autoencoder.toml", "--device", "cpu", "--run", "ae"];
    let output = place.run(&[&train[..], &short].concat());
    assert!(output.status.success(), "{}", text(&output));
    let page = page(&place, &["ae"]);
    for needle in
        ["An autoencoder of ", "images of 16 x 16 pixels", "finished after 8 images", "data:image/png;base64,"]
    {
        assert!(page.contains(needle), "{needle}");
    }
}

#[test]
fn what_is_no_run_is_refused() {
    let place = Place::new();
    place.fails(&["report"], 2, &["<RUN>..."]);
    place.fails(&["report", "nowhere"], 1, &["nowhere: no such folder; expected that of a run"]);
    place.fails(&["report", "config.toml"], 1, &["config.toml: no such folder"]);
    place.fails(
        &["report", "images"],
        1,
        &["images: expected the folder of a run", "which has a config.toml; got one without"],
    );
    place.fails(&["report", "images", "images/../images"], 2, &["the same run twice"]);
}
