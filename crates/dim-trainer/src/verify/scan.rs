//! The selective scan, forward and backward, against cases computed in float64.
//!
//! The files hold sequences as `[batch, channel, token]`; the operation works on `[batch, token, channel]`.

use std::collections::BTreeMap;

use dim_model::Precision;
use dim_model::verify::{Computed, Report, Setting, in_bf16, in_f32};
use dim_torch::ops::{SelectiveScanInputs, selective_scan_with_last_state};
use tch::{Device, Kind, Tensor};

use super::{Compared, of_network};
use crate::error::TrainerError;

/// Errors are relative to the largest value of a tensor.
const TOLERANCE: f64 = 1e-5;
/// Inputs of a case with a gradient each; those after the first five may be absent.
const INPUTS: [&str; 8] = ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"];

/// Compares every case of the file: the keys are `{case}.{tensor}`.
pub(super) fn verify(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    setting: Setting,
) -> Result<Compared, TrainerError> {
    let mut report = Report::default();
    for name in tensors.keys().filter_map(|key| key.strip_suffix(".u")) {
        let case = Case { name, tensors, delta_softplus: delta_softplus(name, metadata)?, device: setting.device };
        let computed = case.evaluate(setting.precision)?;
        match setting.precision {
            Precision::F32 => in_f32(&computed, &mut report),
            // Both evaluations round the same inputs, which makes most of their errors.
            _ => {
                let plain = Case { device: Device::Cpu, ..case }.evaluate(Precision::Bf16Plain)?;
                in_bf16(&computed, &plain, &mut report)?;
            }
        }
        report.inputs.extend(INPUTS.iter().chain(&["dout"]).map(|tensor| format!("{name}.{tensor}")));
    }
    Ok(of_network(report))
}

struct Case<'a> {
    name: &'a str,
    tensors: &'a BTreeMap<String, Tensor>,
    delta_softplus: bool,
    device: Device,
}

impl Case<'_> {
    /// Output, last state and all gradients.
    fn evaluate(&self, precision: Precision) -> Result<Vec<Computed>, TrainerError> {
        let leaves: BTreeMap<&str, Tensor> = INPUTS
            .iter()
            .filter_map(|input| Some((*input, self.find(input)?)))
            .map(|(input, tensor)| (input, token_major(input, tensor).to_device(self.device)))
            .map(|(input, tensor)| (input, tensor.copy().set_requires_grad(true)))
            .collect();
        // Gradients go back through the same roundings.
        let rounded = |tensor: &Tensor| match precision {
            Precision::F32 => tensor.shallow_clone(),
            Precision::Bf16 => tensor.to_kind(Kind::BFloat16),
            Precision::Bf16Plain => tensor.to_kind(Kind::BFloat16).to_kind(Kind::Float),
        };
        let activations: BTreeMap<&str, Tensor> = leaves
            .iter()
            .map(|(input, leaf)| (*input, if is_parameter(input) { leaf.shallow_clone() } else { rounded(leaf) }))
            .collect();
        let required = |input: &str| activations.get(input).ok_or_else(|| self.absent(input));
        let inputs = SelectiveScanInputs {
            u: required("u")?,
            delta: required("delta")?,
            a: required("A")?,
            b: required("B")?,
            c: required("C")?,
            d: activations.get("D"),
            z: activations.get("z"),
            delta_bias: activations.get("delta_bias"),
            initial_state: None,
            delta_softplus: self.delta_softplus,
        };
        let (out, last_state) = selective_scan_with_last_state(&inputs, None)?;
        let out = rounded(&out).to_kind(Kind::Float);
        let grad_out = self.find("dout").ok_or_else(|| self.absent("dout"))?.transpose(1, 2).to_device(self.device);
        (&out * &grad_out).f_sum(Kind::Float)?.f_backward()?;

        let mut computed = Vec::new();
        self.add("out", &out.transpose(1, 2), &mut computed)?;
        self.add("last_state", &last_state, &mut computed)?;
        for (input, leaf) in &leaves {
            self.add(&format!("grad_{input}"), &token_major(input, &leaf.grad()), &mut computed)?;
        }
        Ok(computed)
    }

    /// Adds a tensor beside the float32 one of the file, and beside the float64 one where the file keeps it.
    fn add(&self, tensor: &str, ours: &Tensor, computed: &mut Vec<Computed>) -> Result<(), TrainerError> {
        let expected = self.find(tensor).ok_or_else(|| self.absent(tensor))?;
        let precise = format!("f64.{tensor}");
        let precise = self.find(&precise).map(|expected| (precise.as_str(), expected));
        for (tensor, expected) in std::iter::once((tensor, expected)).chain(precise) {
            let name = format!("{}.{tensor}", self.name);
            if ours.size() != expected.size() {
                let (ours, expected) = (ours.size(), expected.size());
                return Err(TrainerError::Verification(format!("{name} is of shape {ours:?}, expected {expected:?}")));
            }
            computed.push(Computed::new(name, ours, expected, TOLERANCE).relative());
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
    if is_parameter(input) { tensor.shallow_clone() } else { tensor.transpose(1, 2) }
}

/// Parameters are f32 whatever the activations are.
fn is_parameter(input: &str) -> bool {
    matches!(input, "A" | "D" | "delta_bias")
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
