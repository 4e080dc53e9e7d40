//! A small ADM U-Net whose weights are computed from their names: every stage, output, loss, all gradients, another size.

use std::collections::BTreeMap;

use dim_torch::Parameters;
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    File, Report, Setting, absent,
    compare::{self, Computed},
    difference,
};
use crate::{Backbone, BackboneConfig, ModelError, Precision, Unet, UnetConfig, observer::Observer, procedural};

/// Outputs and stages, absolute; their values reach 9, and the published code itself, in f32, is off by up to 1.4e-5.
const TOLERANCE: f64 = 5e-5;
/// What comes before the first norm, absolute.
const FIRST_TOLERANCE: f64 = 1e-5;
/// The loss, a mean over 2304 values.
const LOSS_TOLERANCE: f64 = 1e-6;
/// Sinusoids at t near 1000, where one rounding of a frequency moves a cosine by 6e-5; and outputs computed from them.
const SINUSOID_TOLERANCE: f64 = 1e-4;
/// Gradients, relative to the largest of their tensor; the published code itself, in f32, is off by up to 8e-6.
const GRADIENT_TOLERANCE: f64 = 5e-5;
/// Gradients, absolute: a bias before a norm whose groups are single channels has none but rounding.
const GRADIENT_FLOOR: f64 = 1e-7;
/// Values of a gradient whose errors in bf16 set a bound for it alone.
const SET_A_BOUND: usize = 1024;

/// Checks a small U-Net against the published implementation: names and shapes, weights, every stage, output, loss, all
/// gradients (of large parameters a sample and the norm), another size.
///
/// # Errors
/// A file without the keys or the configuration that such a file has.
pub fn unet(file: &File, setting: Setting) -> Result<Report, ModelError> {
    let mut report = Report::default();
    let network = load(file, setting.device)?.with_precision(setting.precision);
    check_parameters(&network, file, &mut report)?;
    report.input(&["x", "t", "y", "target", "alt.x"], file);

    let computed = evaluate(&network, file, setting.device)?;
    if setting.precision == Precision::F32 {
        compare::in_f32(&computed, &mut report);
    } else {
        let plain = load(file, Device::Cpu)?.with_precision(Precision::Bf16Plain);
        compare::in_bf16(&computed, &evaluate(&plain, file, Device::Cpu)?, &mut report)?;
    }
    Ok(report)
}

/// The network of a file's configuration, with weights computed for the file's seed.
fn load(file: &File, device: Device) -> Result<Unet, ModelError> {
    let config: UnetConfig = from_metadata(file, "config")?;
    let seed: u64 = from_metadata(file, "seed")?;
    let parameters = Parameters::zeros(&config.parameter_specs(), device)?;
    procedural::fill(&parameters, seed)?;
    Unet::new(config, parameters)
}

fn from_metadata<T: serde::de::DeserializeOwned>(file: &File, key: &'static str) -> Result<T, ModelError> {
    serde_json::from_str(file.metadata(key)?).map_err(|error| ModelError::Input {
        argument: key,
        expected: "JSON of its type".into(),
        got: error.to_string(),
    })
}

/// Names and shapes in the order of the published state dictionary, and the first values of each weight.
fn check_parameters(network: &Unet, file: &File, report: &mut Report) -> Result<(), ModelError> {
    let published: Vec<(String, Vec<i64>)> = from_metadata(file, "state_dict")?;
    let ours = network.parameters().specs();
    let differing =
        ours.iter().zip(&published).filter(|(ours, (name, shape))| ours.name != *name || ours.shape != *shape);
    let differing = differing.count() + ours.len().abs_diff(published.len());
    #[allow(clippy::cast_precision_loss)] // hundreds
    report.add("state_dict", differing as f64, 0.0);
    for (spec, tensor) in network.parameters().iter() {
        let key = format!("probe.{}", spec.name);
        let expected = file.tensor(&key)?;
        let first = tensor.detach().flatten(0, -1).f_narrow(0, 0, expected.size()[0])?;
        report.add(key, difference(&first, expected), 0.0);
    }
    Ok(())
}

/// Runs the network forward and backward, and at another size forward.
fn evaluate(network: &Unet, file: &File, device: Device) -> Result<Vec<Computed>, ModelError> {
    let input = |key: &str| Ok::<_, ModelError>(file.tensor(key)?.to_device(device));
    let (x, t, target) = (input("x")?, input("t")?, input("target")?);
    let class = Some(input("y")?);
    // The stored sinusoids are injected, so that one rounding in them does not hide an error elsewhere.
    let time = input("mid.time_features")?;

    let mut seen = BTreeMap::new();
    let mut observer = |name: &str, tensor: &Tensor| {
        seen.insert(name.to_owned(), tensor.detach());
    };
    let out = network.run(&x, &time, class.as_ref(), &mut Observer(Some(&mut observer)))?;
    let noise = out.f_narrow(1, 0, target.size()[1])?;
    let loss = (noise - target).square().mean(Kind::Float);
    loss.f_backward()?;

    let mut computed = Vec::new();
    for key in ["out", "f64.out"] {
        computed.push(Computed::new(key, &out, file.tensor(key)?, TOLERANCE));
    }
    computed.push(Computed::new("loss", &loss, file.tensor("loss")?, LOSS_TOLERANCE));
    seen.insert("time_features".into(), network.time_features(&t)?);
    for (key, expected) in file.starting_with("mid.") {
        let ours = seen.get(key).ok_or_else(|| absent(key))?;
        let tolerance = match key {
            "time_features" => SINUSOID_TOLERANCE,
            "emb" | "input_blocks.0" => FIRST_TOLERANCE,
            _ => TOLERANCE,
        };
        let narrow = matches!(key, "time_features" | "emb");
        computed.push(Computed::new(format!("mid.{key}"), ours, expected, tolerance).always_f32(narrow));
    }
    add_gradients(network, file, &mut computed)?;
    no_grad(|| {
        let own = network.forward_all(&x, &t, class.as_ref())?;
        computed.push(Computed::new("out (own sinusoids)", &own, file.tensor("out")?, SINUSOID_TOLERANCE));
        let alt = network.run(&input("alt.x")?, &time, class.as_ref(), &mut Observer(None))?;
        for key in ["alt.out", "f64.alt.out"] {
            computed.push(Computed::new(key, &alt, file.tensor(key)?, TOLERANCE));
        }
        Ok::<_, ModelError>(())
    })?;
    Ok(computed)
}

/// Each gradient whole, or evenly spaced values of it and its norm.
fn add_gradients(network: &Unet, file: &File, computed: &mut Vec<Computed>) -> Result<(), ModelError> {
    for (spec, tensor) in network.parameters().iter() {
        let gradient = tensor.grad();
        let whole = format!("grads.{}", spec.name);
        if let Some(expected) = file.tensors.get(&whole) {
            add_gradient(whole, &gradient, expected, computed);
            continue;
        }
        let key = format!("gradsample.{}", spec.name);
        let expected = file.tensor(&key)?;
        // Every so many values from the first on; their number tells how many, for it is far more than the step.
        let step = gradient.numel().div_ceil(expected.numel().max(1));
        let sample = gradient.flatten(0, -1).f_slice(0, None, None, i64::try_from(step).unwrap_or(1))?;
        add_gradient(key, &sample, expected, computed);
        let key = format!("gradnorm.{}", spec.name);
        let expected = file.tensor(&key)?;
        let norm = gradient.f_norm()?.f_view([1])?;
        computed.push(Computed::new(key, &norm, expected, GRADIENT_TOLERANCE).relative().of_group("gradient norms"));
    }
    Ok(())
}

fn add_gradient(key: String, ours: &Tensor, expected: &Tensor, computed: &mut Vec<Computed>) {
    let largest = super::largest(expected);
    // Over this scale the tolerance allows its share of the largest value, and the floor besides.
    let scale = largest + GRADIENT_FLOOR / GRADIENT_TOLERANCE;
    let gradient = Computed::new(key, ours, expected, GRADIENT_TOLERANCE).relative_to(scale);
    let small = expected.numel() < SET_A_BOUND;
    computed.push(if small { gradient.of_group("small gradients") } else { gradient });
}

#[cfg(test)]
#[path = "unet_tests.rs"]
mod tests;
