//! `eval` of what networks draw: results of each network and weight of guidance, gone on with and refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, efficientnet_weights, text};
use serde_json::Value;

#[test]
fn samples_are_judged_at_every_weight_of_guidance_and_a_command_goes_on() {
    let Some(weights) = efficientnet_weights() else { return };
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    let common = ["--reference", "images", "--weights", &weights, "--device", "cpu", "--threads", "1", "--json"];
    let eval = |more: &[&str]| place.run(&[&["eval"], &common[..], more].concat());
    let json = |more: &[&str]| {
        let output = eval(more);
        assert!(output.status.success(), "{}", text(&output));
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), text(&output))
    };
    let run = ["--run", "run", "--cfg-scale", "2,1", "--count", "12", "--metrics", "fd,kid,pr,dc"];
    let (first, _) = json(&run);
    let results = first["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for (result, (scale, guided)) in results.iter().zip([(1.0, false), (2.0, true)]) {
        assert_eq!((&result["cfg_scale"], &result["guided"]), (&scale.into(), &guided.into()));
        assert_eq!(result["samples"], 12);
        let scores = &result["scores"];
        assert!(scores["frechet_distance"].as_f64().unwrap() > 0.0 && scores["kid"].is_number(), "{scores}");
        assert!((0.0..=1.0).contains(&scores["precision"].as_f64().unwrap()) && scores["coverage"].is_number());
        // 12 images, 1,280 features.
        assert!(result["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("too large")));
    }
    assert_ne!(results[0]["scores"], results[1]["scores"]);
    let name = |scale: &str, extension: &str| {
        place.path(&format!("evaluation/checkpoint-000000000008-cfg-{scale}.{extension}"))
    };
    let page = fs::read_to_string(place.path("evaluation/report.html")).unwrap();
    assert!(page.contains("<svg") && page.matches("data:image/png;base64").count() == 2);

    // What is known is not drawn again; what is missing is, and comes out the same.
    fs::remove_file(name("2", "safetensors")).unwrap();
    let (again, said) = json(&run);
    assert!(said.contains("cfg-1: 12 of 12 samples are known already") && !said.contains("cfg-2: 12 of 12"), "{said}");
    assert_eq!(again["results"], first["results"]);

    // Samples of a snapshot, whose weights are the checkpoint's average, are the same images.
    let snapshot = fs::read_dir(place.path("run/snapshots")).unwrap().next().unwrap().unwrap().path();
    let network = snapshot.display().to_string();
    let (of_snapshot, _) = json(&["--network", &network, "--cfg-scale", "2", "--count", "12", "--out", "other"]);
    assert_eq!(of_snapshot["results"][0]["scores"]["frechet_distance"], results[1]["scores"]["frechet_distance"]);

    // Other samples in the same folder are refused, and nothing there changes.
    let before = fs::read(name("1", "safetensors")).unwrap();
    let refused = eval(&[&run[..], &["--seed", "9"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("it is of other samples (seed: 0 there, 9 here)"), "{}", text(&refused));
    assert_eq!(fs::read(name("1", "safetensors")).unwrap(), before);
}

#[test]
fn processes_that_share_the_samples_come_to_the_numbers_of_one() {
    let Some(weights) = efficientnet_weights() else { return };
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    let common = ["eval", "--weights", &weights, "--device", "cpu", "--json", "--metrics", "fd,kid,pr"];
    let samples = ["--reference", "images", "--run", "run", "--cfg-scale", "1", "--count", "48", "--steps", "2"];
    let images = ["--images", "images/ring", "--reference", "images/stripes", "--batch-size", "3"];
    let numbers = |output: std::process::Output| {
        assert!(output.status.success(), "{}", text(&output));
        let json = serde_json::from_slice::<Value>(&output.stdout).unwrap();
        let scores = if json["results"].is_array() { json["results"][0]["scores"].clone() } else { json };
        ["frechet_distance", "kid", "precision", "recall"].map(|score| scores[score].as_f64().unwrap())
    };
    for (arguments, out) in [(&samples[..], Some("--out")), (&images, None)] {
        let arguments = |folder| {
            [&common[..], arguments]
                .concat()
                .into_iter()
                .chain(out.map(|out| [out, folder]).into_iter().flatten())
                .collect::<Vec<_>>()
        };
        let alone = numbers(place.run(&[&arguments("one")[..], &["--threads", "1"]].concat()));
        let together = numbers(place.run_together(2, &arguments("two")));
        for (one, other) in alone.iter().zip(together) {
            assert!((one - other).abs() <= 1e-4 * one.abs(), "{alone:?} {together:?}");
        }
    }
    let [one, two] = ["one", "two"].map(|folder| fs::read(place.path(folder).join("results.json")).unwrap());
    assert!(!one.is_empty() && !two.is_empty() && place.path("two/report.html").exists());
}

#[test]
fn what_cannot_be_judged_is_refused_before_anything_is_drawn() {
    let Some(weights) = efficientnet_weights() else { return };
    let place = Place::new();
    place.train(
        "run",
        &["--set", "train.images=4", "--set", "diffusion.class_dropout=1.0", "--set", "sample.cfg_scale=1.0"],
    );
    let common = ["--reference", "images", "--weights", &weights, "--device", "cpu"];
    let eval = |more: &'static [&'static str]| [&["eval"], &common[..], more].concat();
    place.fails(&eval(&["--run", "run", "--cfg-scale", "2"]), 2, &["trained without classes"]);
    place.fails(&eval(&["--run", "nowhere"]), 1, &["nowhere", "no checkpoint"]);
    place.fails(
        &eval(&["--run", "run", "--metrics", "is", "--count", "4"]),
        2,
        &["has no classifier", "--features inception"],
    );
    place.fails(&eval(&["--run", "run", "--sigma-rel", "0.1"]), 2, &["holds no averages"]);
    place.fails(&eval(&["--run", "run", "--images", "images"]), 2, &["cannot be used with"]);
    place.fails(&eval(&[]), 2, &["--images", "--run", "--network"]);
}
