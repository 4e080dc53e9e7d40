//! Images to latents on disk, and training on these: the same bits however often either was stopped.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{Place, text, wait_while_running};
use dim_data::latents::{Latents, LatentsConfig};
use dim_data::{DataConfig, Source, sources::FolderConfig};
use dim_model::AutoencoderConfig;
use dim_model::weights::{Naming, save_parameters};
use dim_torch::Parameters;
use dim_trainer::{FirstStage, config};
use tch::{Device, Kind, Tensor};

/// Four channels, half the size of the image.
fn sizes() -> AutoencoderConfig {
    AutoencoderConfig { channel_mult: vec![1, 1], scaling_factor: 0.5, ..AutoencoderConfig::tiny() }
}

/// A folder with images, `autoencoder.safetensors` that says its sizes, and configurations for latents of 8 x 8: `images.toml` that
/// encodes at every step, `latents.toml` that reads `latents/`.
fn place() -> Place {
    let place = Place::new();
    let parameters = Parameters::zeros(&sizes().parameter_specs(), Device::Cpu).unwrap();
    let values = parameters.values();
    let waves = Tensor::arange(values.numel() as i64, (Kind::Float, Device::Cpu)).sin() * 0.1;
    tch::no_grad(|| values.shallow_clone().copy_(&waves));
    let metadata = BTreeMap::from([("autoencoder".to_owned(), serde_json::json!(sizes()).to_string())]);
    save_parameters(place.path("autoencoder.safetensors"), &parameters, Naming::Ours, &metadata).unwrap();

    let text = fs::read_to_string(place.path("config.toml")).unwrap();
    let section = format!(
        "classes = 2\nin_channels = 4\n[autoencoder]\nweights = \"autoencoder.safetensors\"\n[autoencoder.sizes]\n{}",
        toml::to_string(&sizes()).unwrap()
    );
    let images = text.replace("classes = 2", &section).replace("images = 128", "images = 32");
    let data = format!("source = \"folder\"\npath = \"{}\"", place.path("images").display());
    assert!(images.contains(&data));
    fs::write(place.path("latents.toml"), images.replace(&data, "source = \"latents\"\npath = \"latents\"")).unwrap();
    fs::write(place.path("images.toml"), images).unwrap();
    place
}

/// Two images a file, so that there are six of them.
const ENCODE: [&str; 8] = ["encode", "--device", "cpu", "--threads", "1", "--images-per-shard", "2", "--batch-size=3"];

fn encode(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(&[&ENCODE[..], arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn shards_hold_what_the_autoencoder_makes_of_images_and_mirror_images() {
    let place = place();
    let printed = encode(&place, &["--config", "images.toml", "--out", "latents"]);
    assert!(
        printed.contains("latents: 12 images in 6 files") && printed.contains("networks see them times 0.5"),
        "{printed}"
    );
    let latents = Latents::open(&LatentsConfig { path: place.path("latents") }).unwrap();
    assert_eq!((latents.len(), latents.channels()), (12, 8));
    assert_eq!(latents.classes(), common::CLASSES);

    tch::set_num_threads(1);
    let section =
        config::Autoencoder { kind: None, weights: None, scaling_factor: None, tile_above: 1024, sizes: Some(sizes()) };
    let file = place.path("autoencoder.safetensors");
    let stage = FirstStage::load(&file, &section, Device::Cpu, dim_model::Precision::F32).unwrap();
    let images = DataConfig::Folder(FolderConfig { path: place.path("images") });
    let images = dim_data::open_any(&images, 16).unwrap();
    for index in [0, 7, 11] {
        for mirrored in [false, true] {
            let mut image = vec![0.0; 3 * 16 * 16];
            let class = images.write(index, 16, mirrored, &mut image).unwrap();
            let expected = stage.encode(&Tensor::from_slice(&image).view([1, 3, 16, 16])).unwrap().both().unwrap();
            let mut found = vec![0.0; 8 * 8 * 8];
            assert_eq!(latents.write(index, 8, mirrored, &mut found).unwrap(), class);
            let error = (Tensor::from_slice(&found).view([1, 8, 8, 8]) - expected).abs().max().double_value(&[]);
            assert!(error < 1e-5, "image {index}, mirrored {mirrored}: {error}");
        }
    }
    let again = encode(&place, &["--config", "images.toml", "--out", "latents"]);
    assert!(again.contains("latents is finished already"), "{again}");
}

#[test]
fn processes_share_the_files_and_write_the_bytes_that_one_writes() {
    let place = place();
    let arguments = ["--config", "images.toml", "--out"];
    encode(&place, &[&arguments[..], &["one"]].concat());
    let output = place.run_together(3, &[&ENCODE[..3], &ENCODE[5..], &arguments, &["three"]].concat());
    let printed = text(&output);
    assert!(printed.contains("three: 12 images in 6 files") && printed.contains("one of 3 processes"), "{printed}");
    assert!(contents(&place.path("one")) == contents(&place.path("three")));

    // Each finds a broken file, which together are more than are allowed.
    for class in common::CLASSES {
        fs::write(place.path("images").join(class).join("1.png"), b"no picture").unwrap();
    }
    let arguments = [&ENCODE[..3], &ENCODE[5..], &arguments, &["broken", "--threads", "1", "--max-broken-files", "1"]];
    let outputs = place.start_together(2, 0, |_| arguments.concat());
    for output in outputs.into_iter().map(|child| child.wait_with_output().unwrap()) {
        let printed = text(&output);
        assert!(output.status.code() == Some(2) && printed.contains("`--max-broken-files 2`"), "{printed}");
    }
    assert!(!place.path("broken/index.json").exists());
}

#[test]
fn a_killed_encoding_goes_on_to_the_same_bytes() {
    let place = place();
    // Large enough for there to be time to kill it.
    let arguments =
        ["--data", "images", "--autoencoder", "autoencoder.safetensors", "--image-size", "64", "--store", "f16"];
    encode(&place, &[&arguments[..], &["--out", "whole"]].concat());
    let arguments = [&arguments[..], &["--out", "cut"]].concat();
    let mut command = place.command(&[&ENCODE[..], &arguments].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_while_running(&mut child, || place.path("cut/000001.safetensors").exists());
    child.kill().unwrap(); // SIGKILL: nothing in the process can react
    child.wait().unwrap();
    assert!(!place.path("cut/index.json").exists(), "it was over before it could be killed");
    place.fails(&["encode", "--check", "--out", "cut"], 1, &["cut is not finished", "what is there is good"]);
    fs::write(place.path("cut/.000004.safetensors.1-0.tmp"), b"half of a sh").unwrap();
    // As if a shard had been lost: it is made again, and nothing else is.
    fs::remove_file(place.path("cut/000000.safetensors")).unwrap();
    let printed = encode(&place, &arguments);
    assert!(printed.contains("going on: "), "{printed}");
    assert!(contents(&place.path("cut")) == contents(&place.path("whole")), "the files differ");

    let output = place.run(&["encode", "--check", "--out", "cut"]);
    assert!(output.status.success() && text(&output).contains("every byte is as it was written"), "{}", text(&output));
    let path = place.path("cut/000003.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    place.fails(&["encode", "--check", "--out", "cut"], 1, &["cut has 1 problem", "000003.safetensors", "checksum"]);
}

#[test]
fn training_on_latents_resumes_to_the_same_bits_and_shows_pictures() {
    let place = place();
    encode(&place, &["--config", "images.toml", "--out", "latents"]);
    let train = |config: &'static str, run: &str, arguments: &[&str]| {
        let all = [&["train", "--device", "cpu", "--config", config, "--run", run][..], arguments].concat();
        let output = place.run(&all);
        assert!(output.status.success(), "{}", text(&output));
        fs::read(place.path(run).join("snapshots/000000000032.safetensors"))
    };
    let mut snapshots = Vec::new();
    for config in ["latents.toml", "images.toml"] {
        let [whole, cut] = ["whole", "cut"].map(|run| format!("{run}-{config}"));
        let expected = train(config, &whole, &["--set", "sample.every_images=16"]).unwrap();
        assert!(train(config, &cut, &["--set", "train.images=12", "--set", "sample.every_images=16"]).is_err());
        let resumed = train(config, &cut, &["--resume", "--set", "sample.every_images=16"]).unwrap();
        assert!(resumed == expected, "{config}: the weights differ");
        let pictures = place.files(&format!("{whole}/samples"));
        assert_eq!(pictures.len(), 2);
        let header = fs::read(&pictures[0]).unwrap();
        // Two pictures of 16 pixels side by side, two pixels apart.
        assert_eq!((&header[16..20], &header[20..24]), (&34_u32.to_be_bytes()[..], &16_u32.to_be_bytes()[..]));
        let log = fs::read_to_string(place.path(&whole).join("log.jsonl")).unwrap();
        snapshots.push(
            log.lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap())
                .collect::<Vec<_>>(),
        );
    }
    // Latents that are made at every step, of flipped images, with the same noise, are the latents on disk.
    for (stored, made) in snapshots[0].iter().zip(&snapshots[1]) {
        assert!((stored - made).abs() < 1e-3 * stored, "{snapshots:?}");
    }

    // Other latents under the same name are noticed.
    fs::remove_dir_all(place.path("latents")).unwrap();
    encode(&place, &["--config", "images.toml", "--out", "latents", "--store", "f16"]);
    let resume = ["train", "--device", "cpu", "--config", "latents.toml", "--run", "cut-latents.toml", "--resume"];
    let longer = ["--set", "train.images=64", "--set", "sample.every_images=16"];
    place.fails(&[&resume[..], &longer].concat(), 1, &["latents found: there of checksum", "--accept-changes"]);
}

#[test]
fn data_that_do_not_fit_are_told_with_everything_that_is_wrong() {
    let place = place();
    let train = |arguments: &[&'static str]| {
        [&["train", "--device", "cpu", "--config", "latents.toml", "--run", "run"][..], arguments].concat()
    };
    place.fails(&train(&[]), 1, &["latents: no such folder", "dim-trainer encode"]);
    encode(
        &place,
        &[
            "--data",
            "images",
            "--autoencoder",
            "autoencoder.safetensors",
            "--image-size",
            "8",
            "--out",
            "latents",
            "--no-mirror",
        ],
    );
    let other = [
        "--set",
        "autoencoder.sizes.num_res_blocks=2",
        "--set",
        "autoencoder.scaling_factor=0.25",
        "--set",
        "diffusion.class_dropout=0",
        "--set",
        "sample.cfg_scale=1.0",
    ];
    place.fails(&train(&other), 1, &["is another autoencoder", "num_res_blocks"]);
    place.fails(
        &train(&[]),
        2,
        &[
            "`model.image_size` must be 4, the side of the latents in latents, got 8",
            "`train.random_flip` must be false",
        ],
    );
    let pixels = fs::read_to_string(place.path("config.toml")).unwrap();
    let images = place.path("images").display().to_string();
    let pixels = pixels.replace("source = \"folder\"", "source = \"latents\"").replace(&images, "latents");
    fs::write(place.path("pixels.toml"), pixels).unwrap();
    place.fails(&["train", "--config", "pixels.toml"], 2, &["[autoencoder] must say what they are latents of"]);
    assert!(!place.path("run").exists());
}

#[test]
fn encodings_that_cannot_be_are_refused_before_anything_is_written() {
    let place = place();
    let with = |arguments: &[&'static str]| [&ENCODE[..], arguments].concat();
    let usual = ["--config", "images.toml", "--out", "latents"];
    place.fails(&with(&["--config", "latents.toml", "--out", "latents"]), 2, &["names latents", "--data DIR"]);
    place.fails(&with(&[&usual[..], &["--autoencoder", "nowhere.pth"]].concat()), 1, &["nowhere.pth"]);
    place.fails(&["encode", "--check", "--out", "latents"], 1, &["latents: no such folder"]);
    assert!(!place.path("latents").exists());

    fs::write(place.path("images/ring/7.png"), b"no picture").unwrap();
    place.fails(&with(&usual), 2, &["7.png", "neither PNG", "--max-broken-files 1"]);
    let printed = encode(&place, &[&usual[..], &["--max-broken-files", "1"]].concat());
    assert!(printed.contains("left out") && printed.contains("12 images in 7 files"), "{printed}");
    let before = contents(&place.path("latents"));
    place.fails(
        &with(&[&usual[..], &["--store", "bf16", "--no-mirror"]].concat()),
        1,
        &["another one", "`element`: there \"f32\", here \"bf16\"", "`mirrored`"],
    );
    place.fails(&with(&["--config", "images.toml", "--out", "images"]), 1, &["expected an empty folder", "found ring"]);
    assert!(contents(&place.path("latents")) == before);
}
