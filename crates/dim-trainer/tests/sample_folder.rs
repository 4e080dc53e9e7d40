//! Large batches: a PNG for each image, with all that it takes to draw it again; stopped and gone on with.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Output;

use common::{Place, picture, text};
use serde_json::Value;

/// A network with random weights is enough.
fn place() -> Place {
    let place = Place::new();
    place.train("run", &["--set", "train.images=4"]);
    place
}

fn command<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["sample", "--device", "cpu", "--run", "run"], arguments].concat()
}

fn succeeds(place: &Place, arguments: &[&str]) -> Output {
    let output = place.run(&command(arguments));
    assert!(output.status.success(), "{}", text(&output));
    output
}

/// What a PNG says of itself.
fn told(path: &Path) -> Value {
    let reader = png::Decoder::new(Cursor::new(fs::read(path).unwrap())).read_info().unwrap();
    let text = |keyword: &str| {
        reader.info().utf8_text.iter().find(|chunk| chunk.keyword == keyword).unwrap().get_text().unwrap()
    };
    assert_eq!(text("Software"), concat!("dim-trainer ", env!("CARGO_PKG_VERSION")));
    serde_json::from_str(&text("dim-sample")).unwrap()
}

fn names(place: &Place, folder: &str) -> Vec<String> {
    place.files(folder).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_image_is_the_same_alone_in_a_batch_and_in_the_picture() {
    let place = place();
    let drawn = ["--class", "stripes:2,RING,0:2", "--seed", "5", "--size", "4x6"];
    let all = [&drawn[..], &["--folder", "all", "--out", "grid.png", "--batch-size", "2", "--json"]].concat();
    let output = succeeds(&place, &all);
    assert_eq!(
        names(&place, "all"),
        ["000000.png", "000001.png", "000002.png", "000003.png", "000004.png"],
        "as many as the classes ask for"
    );
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["images"], &result["drawn"]), (&5.into(), &5.into()));
    assert_eq!((&result["folder"], &result["picture"]), (&"all".into(), &"grid.png".into()));
    assert_eq!(result["parameters"]["seed"], 5);

    succeeds(&place, &[&drawn[..], &["--folder", "few", "--count", "3", "--batch-size", "3"]].concat());
    assert!(!place.path("samples.png").exists(), "no picture is asked for");
    let (width, height, grid) = picture(&place.path("grid.png"));
    assert_eq!((width, height), (3 * 6 + 2 * 2, 2 * 4 + 2));
    for index in 0..5 {
        let name = format!("{index:06}.png");
        let image = picture(&place.path("all").join(&name));
        assert_eq!((image.0, image.1), (6, 4));
        let (top, left) = (index / 3 * (4 + 2), index % 3 * (6 + 2));
        for row in 0..4 {
            let start = 3 * ((top + row) * width as usize + left);
            assert_eq!(image.2[row * 18..][..18], grid[start..start + 18], "image {index} in the picture");
        }
        if index < 3 {
            assert!(picture(&place.path("few").join(&name)) == image, "image {index} in another batch");
        }
    }
    let classes: Vec<Value> = place.files("all").iter().map(|path| told(path)["class_name"].clone()).collect();
    assert_eq!(classes, ["stripes", "stripes", "ring", "ring", "ring"]);
}

#[test]
fn a_picture_says_what_it_was_drawn_with() {
    let place = place();
    let weights = place.files("run/snapshots").pop().unwrap();
    let weights = weights.strip_prefix(place.path("")).unwrap().to_str().unwrap().to_owned();
    let arguments = ["--seed", "18446744073709551615", "--cfg-scale", "2.5", "--sampler", "unipc", "--steps", "4"];
    let command = ["sample", "--device", "cpu", "--weights", &weights, "--count", "1", "--folder", "one"];
    let output = place.run(&[&command[..], &arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "one");

    let told = told(&place.path("one/000000.png"));
    assert_eq!(told["seed"], u64::MAX);
    assert_eq!((&told["cfg_scale"], &told["index"], &told["class"]), (&2.5.into(), &0.into(), &0.into()));
    assert_eq!((&told["sampler"]["algorithm"], &told["sampler"]["steps"]), (&"unipc".into(), &4.into()));
    assert_eq!((&told["schedule"], &told["prediction"]), (&"sd".into(), &"epsilon".into()));
    assert_eq!((&told["size"], &told["device"]), (&serde_json::json!([8, 8]), &"cpu".into()));
    assert_eq!(told["weights"]["sha256"].as_str().unwrap().len(), 64);
    let shown = place.run(&["inspect", "one/000000.png"]);
    for needle in ["8 x 8 pixels", "sampler.algorithm", "unipc", "18446744073709551615", "weights.sha256"] {
        assert!(text(&shown).contains(needle), "{}", text(&shown));
    }
}

#[test]
fn a_batch_that_was_stopped_goes_on_and_draws_what_is_missing() {
    let place = place();
    let cut = command(&["--count", "6", "--folder", "cut", "--batch-size", "1", "--steps", "40"]);
    let mut child = place.command(&cut).spawn().unwrap();
    common::wait_while_running(&mut child, || place.path("cut/000001.png").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let before = names(&place, "cut").iter().filter(|name| name.ends_with(".png") && !name.starts_with('.')).count();
    assert!((2..6).contains(&before), "{before} images");

    // What is left half written goes away, a damaged image is drawn again.
    fs::write(place.path("cut/.000005.png-1.tmp"), b"half").unwrap();
    let first = fs::read(place.path("cut/000000.png")).unwrap();
    fs::write(place.path("cut/000000.png"), &first[..first.len() - 20]).unwrap();
    let output = succeeds(&place, &["--count", "6", "--folder", "cut", "--steps", "40", "--json", "--out", "grid.png"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["drawn"], 6 - before + 1);
    let told = text(&output);
    assert!(told.contains("000000.png") && told.contains("image 0 is drawn again"), "{told}");
    assert_eq!(names(&place, "cut").len(), 6);
    assert!(fs::read(place.path("cut/000000.png")).unwrap() == first, "the same image again");

    succeeds(&place, &["--count", "6", "--folder", "uncut", "--steps", "40", "--out", "uncut.png"]);
    for name in names(&place, "uncut") {
        let bytes = |folder: &str| fs::read(place.path(folder).join(&name)).unwrap();
        assert!(bytes("cut") == bytes("uncut"), "{name}");
    }
    assert!(fs::read(place.path("grid.png")).unwrap() == fs::read(place.path("uncut.png")).unwrap());
    // More of the same go beside them.
    let output = succeeds(&place, &["--count", "8", "--folder", "cut", "--steps", "40", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["drawn"], 2);
}

#[test]
fn a_folder_of_other_images_is_refused_and_kept() {
    let place = place();
    succeeds(&place, &["--count", "2", "--folder", "drawn"]);
    let before = fs::read(place.path("drawn/000000.png")).unwrap();
    let other = |extra: &[&'static str]| command(&[&["--count", "2", "--folder", "drawn"], extra].concat());
    place.fails(&other(&["--seed", "9"]), 1, &["drawn/000000.png", "other parameters", "`seed`: there 0, here 9"]);
    place.fails(&other(&["--class", "1"]), 1, &["`class_name`: there \"ring\", here \"stripes\""]);
    place.fails(&other(&["--steps", "5"]), 1, &["`sampler.steps`: there 3, here 5", "--folder"]);
    assert!(fs::read(place.path("drawn/000000.png")).unwrap() == before);

    fs::copy(place.path("images/ring/0.png"), place.path("drawn/000001.png")).unwrap();
    place.fails(&other(&[]), 1, &["drawn/000001.png", "does not say how it was drawn"]);
    fs::write(place.path("drawn/000001.png"), b"notes").unwrap();
    place.fails(&other(&[]), 1, &["drawn/000001.png", "not a PNG"]);
    assert_eq!(fs::read(place.path("drawn/000001.png")).unwrap(), b"notes");
}
