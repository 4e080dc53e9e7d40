//! `eval`: distances of folders of images, and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, efficientnet_weights, text};
use dim_eval::features::{Dinov2, Dinov2Layout, EfficientNetLite, FeedForward, LiteSize};
use dim_model::weights::{self, Naming};
use dim_torch::Parameters;
use tch::Tensor;

fn json(place: &Place, arguments: &[&str]) -> serde_json::Value {
    let output = place.run(&[&["eval", "--json", "--device", "cpu", "--threads", "1"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn distance_is_zero_to_itself_and_not_to_others() {
    let Some(weights) = efficientnet_weights() else { return };
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
    let Some(weights) = efficientnet_weights() else { return };
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

#[test]
fn statistics_are_saved_and_compare_as_their_images_do() {
    let Some(weights) = efficientnet_weights() else { return };
    let place = Place::new();
    let of = |more: &[&str]| json(&place, &[&["--weights", &weights, "--metrics", "fd,kid,pr,dc"], more].concat());
    let saved = of(&["--images", "images/ring", "--save-statistics", "ring.safetensors"]);
    assert_eq!((&saved["statistics"], &saved["images"]), (&"ring.safetensors".into(), &6.into()));
    let folder = of(&["--images", "images/stripes", "--reference", "images/ring"]);
    let file = of(&["--images", "images/stripes", "--reference", "ring.safetensors"]);
    for key in ["frechet_distance", "kid", "kid_std", "precision", "recall", "density", "coverage"] {
        assert_eq!(folder[key], file[key], "{key}");
        assert!(folder[key].is_number(), "{key}: {folder}");
    }
    // Without the features of single images only their moments compare.
    let moments = ["--images", "images/ring", "--metrics", "fd", "--save-statistics", "moments.safetensors"];
    json(&place, &[&["--weights", &weights][..], &moments].concat());
    let eval = |more: &[&'static str]| -> Vec<String> {
        let arguments =
            [&["eval", "--device", "cpu", "--weights"][..], &[&weights], &["--images", "images/stripes"], more]
                .concat();
        arguments.into_iter().map(str::to_owned).collect()
    };
    let fails = |arguments: Vec<String>, code, needles: &[&str]| {
        place.fails(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), code, needles);
    };
    fails(eval(&["--reference", "moments.safetensors", "--metrics", "kid"]), 2, &["save its statistics again"]);
    fails(eval(&["--reference", "ring.safetensors", "--patch", "4"]), 2, &["statistics have no patches"]);
    fails(eval(&["--reference", "ring.safetensors", "--metrics", "sfid"]), 2, &["--features inception"]);
    fails(eval(&["--reference", "config.toml"]), 1, &["config.toml"]);
    fails(eval(&["--features", "inception", "--reference", "images/ring"]), 1, &["Conv2d_1a_3x3"]);
    // The same weights in another file are other weights: nobody compared them.
    let other = place.path("other.safetensors").display().to_string();
    let converted = place.run(&["convert", &weights, &other]);
    assert!(converted.status.success(), "{}", text(&converted));
    place.fails(
        &[
            "eval",
            "--device",
            "cpu",
            "--weights",
            &other,
            "--images",
            "images/stripes",
            "--reference",
            "ring.safetensors",
        ],
        1,
        &["were not measured alike", "weights (SHA-256)"],
    );
}

#[test]
fn images_that_are_all_alike_are_told() {
    let Some(weights) = efficientnet_weights() else { return };
    let place = Place::new();
    fs::create_dir(place.path("alike")).unwrap();
    for number in 0..3 {
        fs::copy(place.path("images/ring/0.png"), place.path("alike").join(format!("{number}.png"))).unwrap();
    }
    let found = json(&place, &["--weights", &weights, "--images", "alike", "--reference", "images/ring"]);
    let notes = found["notes"].to_string();
    assert!(
        notes.contains("the images all look the same") && notes.contains("the images are 3, no more than"),
        "{notes}"
    );
}

/// Writes weights of a small DINOv2, computed from their names; `change` sees each before.
fn write_dinov2(place: &Place, name: &str, change: impl Fn(&str, &Tensor)) -> String {
    let layout =
        Dinov2Layout { width: 64, depth: 1, feed_forward: FeedForward::Mlp, hidden: 128, patch: 14, learnt_side: 4 };
    write(place, name, &Dinov2::procedural_parameters(layout, 5).unwrap(), change)
}

/// Writes weights under the published names; `change` sees each before.
fn write(place: &Place, name: &str, parameters: &Parameters, change: impl Fn(&str, &Tensor)) -> String {
    let tensors: Vec<_> = parameters.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach().copy())).collect();
    tensors.iter().for_each(|(name, tensor)| change(name, tensor));
    let path = place.path(name);
    weights::save(&path, tensors, Naming::Ours, &std::collections::BTreeMap::new()).unwrap();
    path.display().to_string()
}

#[test]
fn features_of_the_larger_efficientnets_are_compared_and_kept_apart() {
    let place = Place::new();
    let weights = [LiteSize::Lite1, LiteSize::Lite2].map(|size| {
        let parameters = EfficientNetLite::procedural_parameters(size, 5).unwrap();
        write(&place, &format!("{}.safetensors", size.name()), &parameters, |_, _| ())
    });
    let eval = |features: &'static str, weights| -> Vec<&str> { vec!["--features", features, "--weights", weights] };
    let lite1 = eval("efficientnet-lite1", &weights[0]);
    let of = |more: &[&str]| json(&place, &[&lite1[..], more].concat());
    let saved = of(&["--images", "images/ring", "--save-statistics", "ring.safetensors"]);
    assert_eq!((&saved["features"], &saved["images"]), (&"efficientnet-lite1".into(), &6.into()));
    let found = of(&["--images", "images/stripes", "--reference", "ring.safetensors"]);
    assert!(found["frechet_distance"].as_f64().unwrap() > 1.0, "{found}");

    let images = ["eval", "--device", "cpu", "--images", "images/ring", "--reference", "ring.safetensors"];
    let fails = |more: &[&str], code, expected: &[&str]| place.fails(&[&images[..], more].concat(), code, expected);
    let apart = ["were not measured alike", "efficientnet-lite2 of the images, efficientnet-lite1 of the reference"];
    fails(&eval("efficientnet-lite2", &weights[1]), 1, &apart);
    fails(&eval("efficientnet-lite1", &weights[1]), 1, &["the weights do not fit the network"]);
    let absent = ["the weights of efficientnet-lite2 are not there", "cargo xtask setup --efficientnet-lite2"];
    fails(&["--features", "efficientnet-lite2"], 2, &absent);
}

#[test]
fn features_of_dinov2_are_compared_and_kept_apart_from_others() {
    let place = Place::new();
    let weights = write_dinov2(&place, "dinov2.safetensors", |_, _| ());
    let dinov2 = ["--features", "dinov2", "--weights", &weights];
    let of = |more: &[&str]| json(&place, &[&dinov2[..], more].concat());
    let saved = of(&["--images", "images/ring", "--metrics", "fd,kid,pr,dc", "--save-statistics", "ring.safetensors"]);
    assert_eq!((&saved["features"], &saved["images"]), (&"dinov2".into(), &6.into()));
    let found = of(&["--images", "images/stripes", "--metrics", "fd,kid,pr,dc", "--reference", "ring.safetensors"]);
    assert!(found["frechet_distance"].as_f64().unwrap() > 1.0 && found["kid"].is_number(), "{found}");
    assert_eq!(found["origin"]["preprocessing"], "bicubic of Pillow, antialiased");
    assert!(found["notes"].to_string().contains("the images are 6, no more than there are features (64)"), "{found}");
    let same = of(&["--images", "images/ring", "--reference", "ring.safetensors"]);
    assert!(same["frechet_distance"].as_f64().unwrap().abs() < 1e-6, "{same}");

    let eval = |features: &'static str, weights: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        let common = ["eval", "--device", "cpu", "--images", "images/ring", "--reference", "images/stripes"];
        [&common[..], &["--features", features, "--weights", weights], more].concat()
    };
    place.fails(&eval("dinov2", "dinov2.safetensors", &["--metrics", "sfid"]), 2, &["--metrics sfid: dinov2 has no"]);
    place.fails(
        &eval("dinov2", "dinov2.safetensors", &["--metrics", "is"]),
        2,
        &["--metrics is: dinov2 has no classifier"],
    );
    place.fails(&eval("dinov2", "nowhere.pth", &[]), 2, &["nowhere.pth: the weights of dinov2 are not there"]);
    place.fails(
        &["eval", "--images", "images", "--reference", "images", "--features", "dinov2"],
        2,
        &["the weights of dinov2 must be named", "dinov2_vitl14_pretrain.pth"],
    );
    // Statistics are no weights.
    place.fails(
        &eval("dinov2", "ring.safetensors", &[]),
        1,
        &["the weights of dinov2 must be", "embeddings.cls_token"],
    );
    place.fails(&eval("inception", "dinov2.safetensors", &[]), 1, &["Conv2d_1a_3x3", "cls_token"]);

    write_dinov2(&place, "broken.safetensors", |name, tensor| {
        if name == "norm.bias" {
            let _ = tensor.get(3).fill_(f64::NAN);
        }
    });
    place.fails(&eval("dinov2", "broken.safetensors", &[]), 1, &["feature 3 of image 0 is not a finite number"]);
    if let Some(efficientnet) = efficientnet_weights() {
        let others = ["eval", "--device", "cpu", "--weights", &efficientnet, "--images", "images/stripes"];
        place.fails(
            &[&others[..], &["--reference", "ring.safetensors"]].concat(),
            1,
            &["were not measured alike", "features: efficientnet-lite0 of the images, dinov2 of the reference"],
        );
    }
}
