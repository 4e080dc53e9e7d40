//! Averages of the weights that are chosen after training.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Place, text};
use tch::{Kind, Tensor};

/// Averages of these widths, stored every 16 images: 8 times.
fn widths(widths: &str) -> [String; 4] {
    ["--set", &format!("ema.sigma_rel={widths}"), "--set", "ema.snapshot_every_images=16"].map(str::to_owned)
}

fn train(place: &Place, run: &str, of: &str) {
    let settings = widths(of);
    place.train(run, &settings.each_ref().map(String::as_str));
}

fn weights(path: &Path) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

/// The root of the mean square of the difference, beside that of the weights `one`.
fn distance(one: &BTreeMap<String, Tensor>, other: &BTreeMap<String, Tensor>) -> f64 {
    assert!(one.keys().eq(other.keys()));
    let square = |tensor: Tensor| tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    let difference: f64 = one.iter().map(|(name, tensor)| square(tensor - &other[name])).sum();
    let whole: f64 = one.values().map(|tensor| square(tensor.shallow_clone())).sum();
    (difference / whole).sqrt()
}

/// What the program makes of a run's averages.
fn averaged(place: &Place, run: &str, arguments: &[&str]) -> BTreeMap<String, Tensor> {
    let output = place.run(&[&["ema", "--run", run, "--out", "out.safetensors"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "out.safetensors");
    weights(&place.path("out.safetensors"))
}

#[test]
fn any_average_is_made_after_training_as_if_it_had_been_tracked() {
    let place = Place::new();
    train(&place, "run", "[0.05, 0.1]");
    train(&place, "direct", "[0.07]");
    // A width that is stored is taken as it is.
    let stored = weights(&place.path("direct/ema/000000000128.safetensors"));
    let stored: BTreeMap<String, Tensor> = stored
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("ema_0.07.")?.to_owned(), tensor)))
        .collect();
    let direct = averaged(&place, "direct", &["--sigma-rel", "0.07"]);
    assert!(distance(&stored, &direct) < 1e-6);
    // Another is made of both that are, and differs from them far more than from the truth.
    let made = averaged(&place, "run", &["--sigma-rel", "0.07"]);
    let [narrow, wide] = ["0.05", "0.1"].map(|width| averaged(&place, "run", &["--sigma-rel", width]));
    let apart = distance(&narrow, &wide);
    let off = distance(&made, &direct);
    println!("{off:.1e} of {apart:.1e}");
    assert!(off < 0.02 * apart, "{off} of {apart}");
    assert!(distance(&made, &narrow) > 0.1 * apart && distance(&made, &wide) > 0.1 * apart);
    // As it was at an earlier moment, and ready to be sampled from.
    let earlier = averaged(&place, "run", &["--sigma-rel", "0.07", "--at", "64"]);
    assert!(distance(&earlier, &made) > apart);
    let output = place.run(&["sample", "--device", "cpu", "--weights", "out.safetensors", "--class", "ring"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn averages_that_cannot_be_made() {
    let place = Place::new();
    let ema = |run: &'static str, extra: &[&'static str]| {
        [&["ema", "--run", run, "--out", "out.safetensors", "--sigma-rel"], extra].concat()
    };
    place.train("without", &["--set", "train.images=8"]);
    place.fails(&ema("without", &["0.1"]), 2, &["without/ema", "no averages", "[ema]"]);
    train(&place, "run", "[0.05]");
    place.fails(&ema("run", &["0.3"]), 2, &["--sigma-rel 0.3", "at most 0.2887"]);
    place.fails(&ema("run", &["-1"]), 2, &["--sigma-rel -1"]);
    place.fails(&ema("run", &["0.1", "--at", "20"]), 2, &["--at 20", "after 16 images"]);
    place.fails(&ema("run", &["0.1", "--at", "8"]), 2, &["--at 8", "none is earlier"]);
    let poor = place.run(&ema("run", &["0.28"]));
    assert!(text(&poor).contains("warning") && text(&poor).contains("[0.05]"), "{}", text(&poor));

    let middle = place.path("run/ema/000000000064.safetensors");
    let good = std::fs::read(&middle).unwrap();
    std::fs::write(&middle, &good[..good.len() / 2]).unwrap();
    place.fails(&ema("run", &["0.1"]), 1, &["000000000064.safetensors", "truncated"]);
    std::fs::copy(place.path("run/checkpoints/000000000128.safetensors"), &middle).unwrap();
    place.fails(&ema("run", &["0.1"]), 1, &["000000000064.safetensors", "dim-ema"]);
}
