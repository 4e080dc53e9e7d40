//! What the program answers to input that cannot work: the right exit code, and what is wrong, expected and found.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{CLASSES, Place, text, train_arguments};

fn train_with<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = train_arguments("run");
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    arguments
}

fn truncate(path: &Path, keep: f64) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..(bytes.len() as f64 * keep) as usize]).unwrap();
}

#[test]
fn configurations_that_do_not_parse() {
    let place = Place::new();
    place.fails(&["train", "--config", "missing.toml"], 2, &["missing.toml"]);
    place.fails(
        &["train", "--config", "config.toml", "--set", "train.bach_size=2"],
        2,
        &["unknown key `train.bach_size`", "`train.batch_size`"],
    );
    place.fails(&train_with(&["train.lr=fast"]), 2, &["`train.lr`", "expected a number", "\"fast\""]);
    place.fails(&["inspect", "--config", "images/ring/0.png"], 2, &["images/ring/0.png"]);
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(place.path("typo.toml"), config.replace("batch_size", "batchsize")).unwrap();
    place.fails(
        &["train", "--config", "typo.toml"],
        2,
        &["typo.toml:16", "unknown key `train.batchsize`", "`train.batch_size`"],
    );
    fs::write(place.path("type.toml"), config.replace("batch_size = 4", "batch_size = \"four\"")).unwrap();
    place.fails(
        &["train", "--config", "type.toml"],
        2,
        &["type.toml:16", "`train.batch_size`", "expected a whole number", "\"four\""],
    );
}

#[test]
fn configurations_that_make_no_sense() {
    let place = Place::new();
    place.fails(&train_with(&["train.batch_size=0"]), 2, &["`train.batch_size` must be at least 1, got 0"]);
    place.fails(&train_with(&["model.image_size=9"]), 2, &["multiple of `patch_size` = 2, got 9"]);
    place.fails(
        &train_with(&["diffusion.class_dropout=2", "train.lr=-1"]),
        2,
        &["2 problems", "class_dropout", "`train.lr`"],
    );
    place.fails(
        &train_with(&["model.classes=1", "diffusion.class_dropout=0.5"]),
        2,
        &["`model.classes` must be at least 2", "got 1"],
    );
    place.fails(&train_with(&["train.precision=bf16"]), 2, &["bf16", "GPU"]);
    assert!(!place.path("run").exists(), "nothing is written before all is checked");
}

#[test]
fn command_lines_that_make_no_sense() {
    let place = Place::new();
    place.fails(&["train"], 2, &["--config"]);
    place.fails(&["dance"], 2, &["dance"]);
    place.fails(&["train", "--config", "config.toml", "--device", "gpu"], 2, &["expected auto, cpu, cuda or cuda:N"]);
    place.fails(&["train", "--config", "config.toml", "--resume", "--overwrite"], 2, &["--overwrite"]);
    place.fails(&["inspect"], 2, &["--config"]);
    place.fails(&["verify", "--golden", "nowhere"], 1, &["nowhere", "no such folder"]);
}

#[test]
fn data_that_are_not_there() {
    let place = Place::new();
    place.fails(&train_with(&["data.path=nowhere"]), 1, &["nowhere", "no such folder"]);
    fs::create_dir(place.path("empty")).unwrap();
    place.fails(&train_with(&["data.path=empty"]), 1, &["empty", "expected", "found"]);
}

#[test]
fn broken_images_are_named_and_skipped() {
    let place = Place::new();
    truncate(&place.path("images/ring/3.png"), 0.5);
    let output = place.train("run", &["--set", "train.images=24"]);
    assert!(output.contains("skipped") && output.contains("images/ring/3.png"), "{output}");

    for number in 0..6 {
        CLASSES.iter().for_each(|class| truncate(&place.path(&format!("images/{class}/{number}.png")), 0.4));
    }
    place.fails(
        &[&train_arguments("none")[..], &["--overwrite"]].concat(),
        1,
        &["12 of 12 images cannot be read", "ring/0.png"],
    );
}

#[test]
fn truncated_idx_files() {
    let place = Place::new();
    fs::create_dir(place.path("idx")).unwrap();
    let header = |magic: u32, sizes: &[u32]| {
        [&[magic][..], sizes].concat().iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>()
    };
    let images = [header(0x803, &[4, 28, 28]), vec![7; 3 * 28 * 28]].concat();
    fs::write(place.path("idx/train-images-idx3-ubyte"), images).unwrap();
    fs::write(place.path("idx/train-labels-idx1-ubyte"), [header(0x801, &[4]), vec![0, 1, 0, 1]].concat()).unwrap();
    let settings = ["data={source='fashion_mnist', path='idx', rgb=true}", "model.image_size=28", "model.classes=10"];
    place.fails(&train_with(&settings), 1, &["train-images-idx3-ubyte", "truncated", "expected"]);
}

#[test]
fn checkpoints_that_do_not_read() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=24"]);
    let newest = place.path("run/checkpoints/000000000024.safetensors");
    let good = fs::read(&newest).unwrap();
    let resume = [&train_arguments("run")[..], &["--resume"]].concat();
    let older = "000000000016.safetensors is older and good: go back to it with `--resume=older`";

    truncate(&newest, 0.9);
    place.fails(&resume, 1, &["000000000024.safetensors is truncated", "bytes expected, got", older]);
    fs::write(&newest, b"this is no checkpoint").unwrap();
    place.fails(&resume, 1, &["000000000024.safetensors is not a checkpoint", older]);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&newest, &flipped).unwrap();
    place.fails(&resume, 1, &["000000000024.safetensors is corrupt", "checksum", older]);
    let key = b"\"version\":\"";
    let version = good.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let mut other_version = good;
    other_version[version] = b'7';
    fs::write(&newest, &other_version).unwrap();
    place.fails(&resume, 1, &["has checkpoint format 7, this program reads format 1", older]);

    let output = place.train("run", &["--resume=older"]);
    assert!(output.contains("resumed after 16 images"), "{output}");
    assert!(place.path("run/checkpoints/000000000024.safetensors.bad").exists());
}

#[test]
fn runs_that_are_not_there_or_there_already() {
    let place = Place::new();
    place.fails(&["train", "--run", "nothing", "--resume"], 1, &["nothing", "no checkpoint"]);
    place.fails(&["sample", "--run", "nothing"], 1, &["nothing", "no checkpoint"]);
    place.train("run", &["--set", "train.images=8"]);
    place.fails(&train_arguments("run"), 1, &["already holds a run", "--resume", "--overwrite"]);
    place.train("run", &["--set", "train.images=8", "--overwrite"]);
}

#[test]
fn samples_that_cannot_be_drawn() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    let sample = |extra: &[&'static str]| [&["sample", "--device", "cpu", "--run", "run"], extra].concat();
    place.fails(
        &sample(&["--class", "2"]),
        2,
        &["--class 2: expected a class from 0 to 1 or one of `ring` or `stripes`"],
    );
    place.fails(&sample(&["--class", "square"]), 2, &["--class square", "`ring` or `stripes`"]);
    place.fails(&sample(&["--guidance-interval", "700-200"]), 2, &["700-200", "LOW-HIGH"]);
    place.fails(&sample(&["--guidance-rescale", "2"]), 2, &["--guidance-rescale 2", "from 0 to 1"]);
    place.fails(&sample(&["--size", "9x8"]), 2, &["--size 9x8", "multiples of 2"]);
    place.fails(&sample(&["--steps", "0"]), 2, &["steps"]);
    place.fails(&sample(&["--sampler", "ddim", "--order", "2"]), 2, &["--order 2", "dpm++"]);
    place.fails(&sample(&["--sampler", "unipc", "--order", "4"]), 2, &["order must be 1, 2 or 3, but is 4"]);
    place.fails(&sample(&["--sampler", "ddim", "--eta", "2"]), 2, &["eta must be 0 to 1, but is 2"]);
    place.fails(&sample(&["--eta", "0.5"]), 2, &["--eta 0.5", "ddim"]);
    place.fails(&sample(&["--class", "ring:0"]), 2, &["--class ring:0", "number of images from 1"]);
    place.fails(&sample(&["--class", "square:2"]), 2, &["--class square", "`ring` or `stripes`"]);
    place.fails(&sample(&["--seed", "-1"]), 2, &["-1", "--seed"]);
    place.fails(&sample(&["--count", "100000"]), 2, &["too many for one picture", "--folder DIR"]);
    place.fails(&sample(&["--out", "nowhere/a.png"]), 1, &["cannot write nowhere/a.png"]);
    place.fails(&sample(&["--folder", "config.toml"]), 1, &["cannot write config.toml"]);
    place.fails(&sample(&["--folder", "a", "--latents", "b"]), 2, &["--folder", "--latents"]);
    place.fails(&sample(&["--sampler", "magic"]), 2, &["magic", "dpm++", "euler-maruyama"]);
    place.fails(&["sample", "--weights", "images/ring/0.png"], 1, &["0.png", "holds no weights"]);
    place.fails(&["sample", "--weights", "run/snapshots/000000000008.safetensors", "--no-ema"], 2, &["--no-ema"]);
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(place.path("deeper.toml"), config.replace("classes = 2", "classes = 2\ndepth = 7")).unwrap();
    place.fails(
        &[
            "sample",
            "--device",
            "cpu",
            "--weights",
            "run/snapshots/000000000008.safetensors",
            "--config",
            "deeper.toml",
        ],
        1,
        &["blocks.5", "missing"],
    );
}

#[test]
fn loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=16"]);
    let arguments = [
        &train_arguments("run")[..],
        &["--resume", "--accept-changes", "--set", "train.lr=1e37", "--set", "train.clip_norm=1e30"],
    ]
    .concat();
    place.fails(&arguments, 1, &["became", "at step", "images seen", "000000000016.safetensors", "train.lr"]);
    let newest = place.files("run/checkpoints").pop().unwrap();
    let output = place.run(&["inspect", "--run", "run"]);
    assert!(
        text(&output).contains(&format!("{}: step", newest.strip_prefix(place.path("")).unwrap().display())),
        "{}",
        text(&output)
    );
}

#[cfg(unix)]
#[test]
fn full_disk_leaves_the_old_checkpoints() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=16"]);
    let before = place.files("run/checkpoints");
    // No file may grow beyond 64 KiB: what a full disk does, without one. The signal that comes with it is ignored.
    let program = env!("CARGO_BIN_EXE_dim-trainer");
    let script = format!("trap '' XFSZ; ulimit -f 128; exec {program} {} --resume", train_arguments("run").join(" "));
    let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for needle in ["cannot write", "000000000024.safetensors", "make room", "--resume"] {
        assert!(text(&output).contains(needle), "{}", text(&output));
    }
    assert_eq!(place.files("run/checkpoints"), before);
    place.train("run", &["--resume"]);
}

#[test]
fn training_on_latents_of_images_needs_the_autoencoders_weights() {
    let place = Place::new();
    place.fails(
        &train_with(&["autoencoder.kind=kl_f8", "model.in_channels=4"]),
        2,
        &["`autoencoder.weights` is missing", "8 x 8 latents of 64 x 64 images", "dim-trainer encode"],
    );
}
