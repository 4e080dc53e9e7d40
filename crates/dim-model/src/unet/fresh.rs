//! Fresh weights, as the published code draws them: PyTorch's defaults, and zeros where a branch or the output ends.

use std::collections::BTreeMap;

use dim_torch::ParameterSpec;

use crate::init::{Init, fan_in};

/// How a parameter is drawn, given the inputs of one output of every layer by its name.
pub(super) fn rule(spec: &ParameterSpec, inputs: &BTreeMap<&str, f64>) -> Init {
    let (module, part) = split(&spec.name);
    let is = |name: &str| module == name || module.ends_with(&format!(".{name}"));
    if module == "label_emb" {
        return Init::Normal(1.0);
    }
    if is("in_layers.0") || is("out_layers.0") || is("norm") || module == "out.0" {
        return Init::Constant(if part == "weight" { 1.0 } else { 0.0 });
    }
    // `zero_module`: every branch adds nothing at first, and the first prediction is zero.
    if is("out_layers.3") || is("proj_out") || module == "out.2" {
        return Init::Constant(0.0);
    }
    // A bias is drawn from the range of its weight.
    inputs.get(module).map_or(Init::Constant(0.0), |inputs| Init::Uniform(inputs.powf(-0.5)))
}

/// Inputs of one output of every layer that has a weight, by the layer's name.
pub(super) fn inputs(specs: &[ParameterSpec]) -> BTreeMap<&str, f64> {
    let weights = specs.iter().filter(|spec| spec.name.ends_with(".weight"));
    weights.map(|spec| (split(&spec.name).0, fan_in(spec))).collect()
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}
