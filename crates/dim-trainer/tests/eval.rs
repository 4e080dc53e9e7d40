//! `eval`: distances of folders of images, and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Place, text};

/// The trained weights; `None`, said aloud, where set-up could not install them.
fn weights() -> Option<String> {
    let installed = dim_eval::features::EfficientNetLite0::INSTALLED;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(installed);
    if !path.exists() {
        eprintln!("skipped: {} is not there; `cargo xtask setup` installs it", path.display());
        return None;
    }
    Some(path.display().to_string())
}

fn json(place: &Place, arguments: &[&str]) -> serde_json::Value {
    let output = place.run(&[&["eval", "--json", "--device", "cpu", "--threads", "1"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn distance_is_zero_to_itself_and_not_to_others() {
    let Some(weights) = weights() else { return };
    let place = Place::new();
    let weights = ["--weights", &weights];
    let of = |images: &str, more: &[&str]| {
        json(&place, &[&["--images", images, "--reference", "images/ring"], &weights[..], more].concat())
    };
    // Nine patches of each image would come of a stride of 3 (0, 3 and, flush with the edge, 4); four come of this.
    let other = of("images/stripes", &["--patch", "5", "--stride", "4"]);
    assert!(other["frechet_distance"].as_f64().unwrap() > 1.0, "{other}");
    assert!(other["patches"]["frechet_distance"].as_f64().unwrap() > 1.0, "{other}");
    assert_eq!((other["images"]["count"].as_u64(), other["patches"]["images"].as_u64()), (Some(6), Some(6 * 4)));
    // Batches of another size change the rounding alone.
    let same = of("images/ring", &["--batch-size", "4"]);
    assert!(same["frechet_distance"].as_f64().unwrap().abs() < 1e-6, "{same}");
    assert!(same.get("patches").is_none());
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let Some(weights) = weights() else { return };
    let place = Place::new();
    let eval = |images: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        [&["eval", "--device", "cpu", "--reference", "images/ring", "--images", images], more].concat()
    };
    place.fails(&eval("nowhere", &[]), 1, &["nowhere: no such folder"]);
    place.fails(&eval("images", &["--weights", "nowhere.pth"]), 2, &["nowhere.pth", "cargo xtask setup"]);
    place.fails(&eval("images", &["--patch", "4", "--stride", "5"]), 2, &["from 1 to their size, 4, got 5"]);
    fs::create_dir(place.path("one")).unwrap();
    fs::copy(place.path("images/ring/0.png"), place.path("one/0.png")).unwrap();
    place.fails(&eval("one", &[]), 2, &["one image has no covariance"]);
    let large = [&eval("images/stripes", &["--patch", "16", "--weights"])[..], &[&weights]].concat();
    place.fails(
        &large,
        1,
        &["images/stripes/0.png: an image must be at least as large as a patch, 16 x 16, got 8 x 8"],
    );
    fs::write(place.path("one/1.png"), b"no picture").unwrap();
    let broken = [&eval("one", &["--weights"])[..], &[&weights]].concat();
    place.fails(&broken, 1, &["one/1.png: cannot be read as an image"]);
}
