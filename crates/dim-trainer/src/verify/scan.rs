//! The selective scan, forward and backward, against cases computed in float64.
//!
//! The files hold sequences as `[batch, channel, token]`; the operation works on `[batch, token, channel]`.

use std::collections::BTreeMap;

use dim_torch::ops::{SelectiveScanInputs, selective_scan_with_last_state};
use tch::{Kind, Tensor};

use super::{Check, Compared};
use crate::error::TrainerError;

/// Errors are relative to the largest value of a tensor.
const TOLERANCE: f64 = 1e-5;
/// Inputs of a case with a gradient each; those after the first five may be absent.
const INPUTS: [&str; 8] = ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"];

/// Compares every case of the file: the keys are `{case}.{tensor}`.
pub(super) fn verify(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Compared, TrainerError> {
    let mut checks = Vec::new();
    let mut inputs = Vec::new();
    for case in tensors.keys().filter_map(|key| key.strip_suffix(".u")) {
        let case = Case { name: case, tensors, delta_softplus: delta_softplus(case, metadata)? };
        case.verify(&mut checks)?;
        inputs.extend(INPUTS.iter().chain(&["dout"]).map(|tensor| format!("{}.{tensor}", case.name)));
    }
    Ok((checks, inputs))
}

struct Case<'a> {
    name: &'a str,
    tensors: &'a BTreeMap<String, Tensor>,
    delta_softplus: bool,
}

impl Case<'_> {
    fn verify(&self, checks: &mut Vec<Check>) -> Result<(), TrainerError> {
        let leaves: BTreeMap<&str, Tensor> = INPUTS
            .iter()
            .filter_map(|input| Some((*input, self.find(input)?)))
            .map(|(input, tensor)| (input, token_major(input, tensor).copy().set_requires_grad(true)))
            .collect();
        let required = |input: &str| leaves.get(input).ok_or_else(|| self.absent(input));
        let inputs = SelectiveScanInputs {
            u: required("u")?,
            delta: required("delta")?,
            a: required("A")?,
            b: required("B")?,
            c: required("C")?,
            d: leaves.get("D"),
            z: leaves.get("z"),
            delta_bias: leaves.get("delta_bias"),
            initial_state: None,
            delta_softplus: self.delta_softplus,
        };
        let (out, last_state) = selective_scan_with_last_state(&inputs, None)?;
        let grad_out = self.find("dout").ok_or_else(|| self.absent("dout"))?.transpose(1, 2);
        (&out * &grad_out).f_sum(Kind::Float)?.f_backward()?;

        self.compare("out", &out.transpose(1, 2), checks)?;
        self.compare("last_state", &last_state, checks)?;
        for (input, leaf) in &leaves {
            self.compare(&format!("grad_{input}"), &token_major(input, &leaf.grad()), checks)?;
        }
        Ok(())
    }

    /// Compares with the float32 tensor, and with the float64 one where the file keeps it.
    fn compare(&self, tensor: &str, ours: &Tensor, checks: &mut Vec<Check>) -> Result<(), TrainerError> {
        let expected = self.find(tensor).ok_or_else(|| self.absent(tensor))?;
        checks.push(Check {
            tensor: format!("{}.{tensor}", self.name),
            error: relative_error(ours, expected)?,
            tolerance: TOLERANCE,
        });
        let precise = format!("f64.{tensor}");
        if let Some(expected) = self.find(&precise) {
            checks.push(Check {
                tensor: format!("{}.{precise}", self.name),
                error: relative_error(ours, expected)?,
                tolerance: TOLERANCE,
            });
        }
        Ok(())
    }

    fn find(&self, tensor: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("{}.{tensor}", self.name))
    }

    fn absent(&self, tensor: &str) -> TrainerError {
        TrainerError::Verification(format!("the scan case `{}` has no tensor `{tensor}`", self.name))
    }
}

/// Sequences have their last two dimensions exchanged, there and back; A, D and the bias stay.
fn token_major(input: &str, tensor: &Tensor) -> Tensor {
    if matches!(input, "A" | "D" | "delta_bias") { tensor.shallow_clone() } else { tensor.transpose(1, 2) }
}

/// A case's options stand in the metadata under its name, as JSON.
fn delta_softplus(case: &str, metadata: &BTreeMap<String, String>) -> Result<bool, TrainerError> {
    let options = metadata.get(case).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    options.and_then(|options| options.get("delta_softplus")?.as_bool()).ok_or_else(|| {
        TrainerError::Verification(format!(
            "the metadata do not say whether the scan case `{case}` has `delta_softplus`"
        ))
    })
}

/// The largest difference over the largest expected value; infinite if shapes differ or a value is no number.
fn relative_error(ours: &Tensor, expected: &Tensor) -> Result<f64, TrainerError> {
    if ours.size() != expected.size() {
        return Ok(f64::INFINITY);
    }
    let expected = expected.f_to_kind(Kind::Double)?;
    let largest = expected.abs().f_max()?.f_double_value(&[])?;
    let error = (ours.f_detach()?.f_to_kind(Kind::Double)? - expected).abs().f_max()?.f_double_value(&[])?;
    let relative = error / if largest > 0.0 { largest } else { 1.0 };
    Ok(if relative.is_finite() { relative } else { f64::INFINITY })
}
