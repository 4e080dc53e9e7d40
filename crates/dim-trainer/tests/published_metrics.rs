//! The same images through this program and through pytorch-fid, torch-fidelity and prdc, resizing included.
//!
//! Skipped, and said so, where Python lacks the packages; `DIM_METRICS_PYTHON` names an interpreter that has them. Weights are computed from
//! their names, for both sides.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use common::{Place, text};
use dim_eval::features::Inception;
use dim_model::weights::{FileFormat, Naming, save_as};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Images of each set: one less than a batch of the packages, and enough for five neighbours.
const IMAGES: usize = 16;

/// Waves of colour, another picture for each number.
fn write_image(path: &Path, [width, height]: [u32; 2], number: usize, set: usize) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> = (0..height)
        .flat_map(|row| (0..width).flat_map(move |column| (0..3).map(move |channel| (row, column, channel))))
        .map(|(row, column, channel)| {
            let turn = 0.1 * (1 + (number * 7 + channel * 3) % 11) as f64;
            let wave = (turn * (f64::from(column) + 0.13 * number as f64 * f64::from(row))).sin();
            (128.0 + 100.0 * wave + 20.0 * set as f64) as u8
        })
        .collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

#[test]
fn metrics_are_those_of_the_packages_that_papers_use() {
    let python = std::env::var("DIM_METRICS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_packages = Command::new(&python).args(["-c", "import pytorch_fid, torch_fidelity, prdc, torch"]).output();
    if !has_packages.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "skipped: {python} lacks pytorch-fid, torch-fidelity or prdc; tests/published_metrics.py says how to install them"
        );
        return;
    }
    let place = Place::new();
    for (set, (folder, size)) in [("one", [64, 48]), ("other", [48, 72])].into_iter().enumerate() {
        fs::create_dir(place.path(folder)).unwrap();
        for number in 0..IMAGES {
            write_image(&place.path(folder).join(format!("{number:02}.png")), size, number + 5 * set, set);
        }
    }
    let parameters = Inception::procedural_parameters(4106).unwrap();
    let own = parameters.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach()));
    let counts = parameters.iter().filter_map(|(spec, _)| {
        let norm = spec.name.strip_suffix(".running_mean")?;
        Some((format!("{norm}.num_batches_tracked"), Tensor::zeros([], (Kind::Int64, Device::Cpu))))
    });
    let weights = place.path("inception.pth");
    save_as(&weights, own.chain(counts), Naming::Ours, FileFormat::PyTorch, &BTreeMap::new()).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published_metrics.py");
    let mut command = Command::new(&python);
    command.current_dir(place.path("")).arg(script).args(["one", "other", "inception.pth"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = |more: &[&str]| {
        let count = IMAGES.to_string();
        let arguments =
            ["eval", "--json", "--device", "cpu", "--images", "one", "--reference", "other", "--features", "inception"];
        let metrics =
            ["--weights", "inception.pth", "--metrics", "fd,is,kid,pr,dc", "--score-parts", "1", "--kid-subsets", "1"];
        let output = place.run(&[&arguments[..], &metrics, &["--kid-subset-size", &count], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let (pytorch, tensorflow) = (ours(&[]), ours(&["--preprocessing", "tensorflow"]));
    let close = |what: &str, one: &Value, other: &Value, tolerance: f64| {
        let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
        println!("{what}: {one} here, {other} there");
        assert!((one - other).abs() <= tolerance * other.abs(), "{what}: {one} here, {other} there");
    };
    // Scipy's root of a product of singular matrices, which these packages take, is itself off by some millionths.
    close("FID of pytorch-fid", &pytorch["frechet_distance"], &theirs["pytorch_fid"]["fid"], 2e-5);
    let fidelity = &theirs["torch_fidelity"];
    close("FID of torch-fidelity", &tensorflow["frechet_distance"], &fidelity["fid"], 2e-5);
    close("inception score", &tensorflow["inception_score"], &fidelity["inception_score"], 1e-6);
    // That package multiplies features in f32.
    close("KID", &tensorflow["kid"], &fidelity["kid"], 1e-4);
    let prdc = &theirs["prdc"];
    for (key, k) in [("precision", "3"), ("recall", "3"), ("density", "5"), ("coverage", "5")] {
        close(key, &pytorch[key], &prdc[k][key], 1e-12);
    }
    // What the resizing alone changes is more than all tolerances.
    let [one, other] = [&pytorch, &tensorflow].map(|found| found["frechet_distance"].as_f64().unwrap());
    assert!((one - other).abs() > 1e-3 * one, "{one} {other}");
}
