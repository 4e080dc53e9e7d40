//! `verify`: what is compared, what is not, and what the exit status says.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Place, text};

/// The reference tensors that the repository keeps.
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}

#[test]
fn scan_cases_pass_and_nothing_is_passed_over() {
    let place = Place::new();
    fs::create_dir(place.path("golden")).unwrap();
    fs::copy(golden("selective_scan.safetensors"), place.path("golden/selective_scan.safetensors")).unwrap();
    fs::copy(golden("full_S.safetensors"), place.path("golden/full_S.safetensors")).unwrap();
    fs::write(place.path("golden/notes.txt"), "").unwrap();
    let output = place.run(&["verify", "--golden", "golden"]);
    assert!(output.status.success(), "{}", text(&output));
    for needle in [
        "selective_scan.safetensors: 124 tensors, all within tolerance",
        "notes.txt: not covered",
        "full_S.safetensors: needs --full",
        "124 tensors of 1 file compared, 0 failed",
    ] {
        assert!(text(&output).contains(needle), "{needle}: {}", text(&output));
    }
    let output = place.run(&["verify", "--golden", "golden", "--json"]);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["tensors"], &result["failed"], &result["precision"]), (&124.into(), &0.into(), &"f32".into()));
    let checks = result["files"][0]["checks"].as_array().unwrap();
    assert!(checks.len() == 124 && checks.iter().all(|check| check["passed"] == true && check["error"].is_number()));
    assert_eq!(result["not_compared"].as_array().unwrap().len(), 2);
}

#[test]
fn single_wrong_number_fails() {
    let place = Place::new();
    fs::create_dir(place.path("golden")).unwrap();
    let mut bytes = fs::read(golden("selective_scan.safetensors")).unwrap();
    // The last bytes of the file belong to some expected tensor or input; a changed exponent shows either way.
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    fs::write(place.path("golden/selective_scan.safetensors"), bytes).unwrap();
    let output = place.run(&["verify", "--golden", "golden"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("FAILED"), "{}", text(&output));
}

#[test]
fn nothing_to_compare_is_a_failure() {
    let place = Place::new();
    fs::create_dir(place.path("golden")).unwrap();
    place.fails(&["verify", "--golden", "golden"], 1, &["nothing was compared"]);
    fs::write(place.path("golden/selective_scan.safetensors"), b"garbage").unwrap();
    place.fails(&["verify", "--golden", "golden"], 1, &["nothing was compared"]);
}

#[test]
fn bf16_is_refused_on_the_cpu() {
    let place = Place::new();
    fs::create_dir(place.path("golden")).unwrap();
    place.fails(&["verify", "--golden", "golden", "--precision", "bf16"], 2, &["needs a GPU", "--device cuda:N"]);
}
