//! The reference file `golden/schedule.safetensors`, tensor by tensor.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

use dim_diffusion::{
    DiffusionError,
    verify::{Check, is_schedule_input, schedule_file},
};
use tch::{Kind, Tensor};

fn golden() -> Vec<(String, Tensor)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/schedule.safetensors");
    Tensor::read_safetensors(path).unwrap()
}

fn failures(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| !check.passed()).map(|check| check.tensor.as_str()).collect()
}

#[test]
fn every_reference_tensor_is_met() {
    let checks = schedule_file(&golden()).unwrap();
    for check in &checks {
        println!("{:<36} {:.2e} of {:.0e}", check.tensor, check.error, check.tolerance);
    }
    assert_eq!(failures(&checks), Vec::<&str>::new());
}

#[test]
fn every_tensor_of_this_crate_is_compared_once_or_an_input() {
    let tensors = golden();
    let checks = schedule_file(&tensors).unwrap();
    let compared: BTreeSet<&str> = checks.iter().map(|check| check.tensor.as_str()).collect();
    assert_eq!(compared.len(), checks.len());
    for (name, _) in &tensors {
        let elsewhere = name.starts_with("skiptune.");
        let ways = [elsewhere, compared.contains(name.as_str()), is_schedule_input(name)];
        assert_eq!(ways.iter().filter(|way| **way).count(), 1, "{name}: {ways:?}");
    }
}

#[test]
fn a_wrong_number_in_a_reference_tensor_is_noticed() {
    let mut tensors = golden();
    let compared = schedule_file(&tensors).unwrap();
    for (name, tensor) in &mut tensors {
        if compared.iter().any(|check| check.tensor == *name) {
            *tensor = with_last_number_wrong(tensor);
        }
    }
    for check in schedule_file(&tensors).unwrap() {
        assert!(!check.passed(), "{check:?}");
    }
}

fn with_last_number_wrong(right: &Tensor) -> Tensor {
    let wrong = right.copy().flatten(0, -1);
    let last = wrong.get(-1);
    let step = if right.kind() == Kind::Int64 { 1.0 } else { 1e-3 };
    // Ratios in the thousands are compared relatively.
    let value = last.double_value(&[]);
    let _ = last.shallow_clone().fill_(value + step * value.abs().max(1.0));
    wrong.view(&right.size()[..])
}

#[test]
fn a_reference_tensor_of_another_shape_or_not_finite_fails() {
    let mut tensors = golden();
    let place = tensors.iter().position(|(name, _)| name == "ns.std").unwrap();
    let right = tensors[place].1.shallow_clone();
    for wrong in [right.slice(0, 1, None, 1), &right * f64::NAN] {
        tensors[place].1 = wrong;
        assert_eq!(failures(&schedule_file(&tensors).unwrap()), ["ns.std"]);
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let mut tensors = golden();
    tensors.retain(|(name, _)| name != "gauss.mu");
    match schedule_file(&tensors) {
        Err(DiffusionError::Reference { name, .. }) => assert_eq!(name, "gauss.mu"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_sizes_and_a_part_of_the_file_are_read_from_the_names() {
    let tensors = golden();
    let kept = |name: &str| name.starts_with("fast_orders.") || name.starts_with("cfg.");
    let part: Vec<(String, Tensor)> = tensors
        .iter()
        .filter(|(name, _)| kept(name))
        // Two of the three samples.
        .map(|(name, x)| {
            let whole = !name.starts_with("cfg.") || name == "cfg.table";
            let cut = if whole { x.shallow_clone() } else { x.slice(0, 0, 2, 1) };
            (name.clone(), cut)
        })
        .chain([("fast_orders.9".to_owned(), Tensor::from_slice(&[3i64, 3, 2, 1]))])
        .collect();
    let checks = schedule_file(&part).unwrap();
    assert_eq!(failures(&checks), Vec::<&str>::new());
    assert!(checks.iter().any(|check| check.tensor == "fast_orders.9"));
    assert!(checks.iter().all(|check| kept(&check.tensor)));
}
