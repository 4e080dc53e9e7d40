//! The reference file `golden/schedule.safetensors`, tensor by tensor.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

use dim_diffusion::verify::{Check, is_schedule_input, schedule_file};
use tch::{Kind, Tensor};

fn golden() -> Vec<(String, Tensor)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/schedule.safetensors");
    Tensor::read_safetensors(path).unwrap()
}

fn failures(checks: &[Check]) -> Vec<String> {
    let failed = checks.iter().filter(|check| !check.passed());
    failed
        .map(|c| format!("{}: {:.2e} > {:.0e}", c.tensor, c.error, c.tolerance))
        .collect()
}

#[test]
fn every_reference_tensor_is_met() {
    let checks = schedule_file(&golden()).unwrap();
    for check in &checks {
        println!(
            "{:<36} {:.2e} of {:.0e}",
            check.tensor, check.error, check.tolerance
        );
    }
    assert_eq!(failures(&checks), Vec::<String>::new());
}
