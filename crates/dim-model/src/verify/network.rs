//! The tiny networks: weights, every intermediate, output, loss, all gradients, other sizes, skip-tuning.

use std::collections::BTreeMap;

use dim_torch::Parameters;
use tch::{Device, Kind, Tensor, no_grad};

use super::{File, GRADIENT_TOLERANCE, Report, difference, grid_of, in_scan_order, relative};
use crate::{
    Dim, DimConfig, ForwardOptions, ModelError, SkipTuning,
    dim::Observer,
    embedding::TimeFeatures,
    weights::{
        self,
        names::{to_authors, to_ours},
    },
};

/// Outputs and intermediates of the tiny networks, absolute.
const TINY_TOLERANCE: f64 = 1e-5;
/// Sinusoids at t near 1000, where one rounding of a frequency moves a cosine by 3e-5; and outputs computed from them.
const SINUSOID_TOLERANCE: f64 = 1e-4;

/// Checks a tiny network: weights, every intermediate, output, loss, all gradients, other sizes, skip-tuning.
///
/// # Errors
/// A file without the keys or the configuration that such a file has.
pub fn network(file: &File) -> Result<Report, ModelError> {
    let mut report = Report::default();
    let config = DimConfig::from_authors_with_weights(
        file.metadata("config")?,
        file.tensors.keys().filter_map(|key| key.strip_prefix("weights.")),
    )?;
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu)?;
    let ours: Vec<(String, Tensor)> = file
        .starting_with("weights.")
        // A name that is not the authors' stays, for `assign` to report it with all others that do not fit.
        .map(|(name, tensor)| to_ours(name, tensor).unwrap_or_else(|| (name.to_owned(), tensor.shallow_clone())))
        .collect();
    weights::assign(&parameters, &ours).map_err(|error| weights_error(&error))?;
    let network = Dim::new(config, parameters)?;
    check_weights(&network, file, &mut report);

    let (x, t, target) = (file.tensor("x")?, file.tensor("t")?, file.tensor("target")?);
    let class = file.tensors.get("y");
    report.input(&["x", "t", "y", "target", "alt_native.x", "alt_down.x"], file);
    let time = TimeFeatures {
        token: file.tensor("mid.time_sinusoid")?.shallow_clone(),
        embedding: file.tensor("mid.adaln_time_proj")?.shallow_clone(),
    };

    // The stored sinusoids are injected, so that one rounding in them does not hide an error elsewhere.
    let mut seen = BTreeMap::new();
    let mut observer = |name: &str, tensor: &Tensor| {
        seen.insert(name.to_owned(), tensor.detach());
    };
    let out = network.run(x, &time, class, ForwardOptions::default(), &mut Observer(Some(&mut observer)))?;
    let loss = (&out - target).square().mean(Kind::Float);
    loss.f_backward()?;
    report.add("out", difference(&out, file.tensor("out")?), TINY_TOLERANCE);
    if let Some(expected) = file.tensors.get("f64.out") {
        report.add("f64.out", difference(&out, expected), TINY_TOLERANCE);
    }
    report.add("loss", difference(&loss, file.tensor("loss")?), TINY_TOLERANCE);

    let own = TimeFeatures::new(t, network.config())?;
    seen.insert("time_token".into(), own.token);
    seen.insert("time_embed.features".into(), own.embedding);
    check_intermediates(&network, file, &seen, x, &mut report)?;
    check_gradients(&network, file, &mut report)?;
    no_grad(|| check_variants(&network, file, &time, &mut report))?;
    Ok(report)
}

fn weights_error(error: &weights::WeightsError) -> ModelError {
    ModelError::Input { argument: "weights", expected: "those of the configuration".into(), got: error.to_string() }
}

/// Every weight must come back from our names and shapes bit for bit.
fn check_weights(network: &Dim, file: &File, report: &mut Report) {
    for (spec, tensor) in network.parameters().iter() {
        let Some((name, tensor)) = to_authors(&spec.name, &tensor.detach()) else { continue };
        if let Some(expected) = file.tensors.get(&format!("weights.{name}")) {
            let same_shape = tensor.size() == expected.size();
            let error = if same_shape { difference(&tensor, expected) } else { f64::INFINITY };
            report.add(format!("weights.{name}"), error, 0.0);
        }
    }
}

/// Our name of an intermediate the authors' code has.
fn intermediate(key: &str) -> String {
    match key {
        "time_sinusoid" => "time_token".into(),
        "class_embed" => "class_token".into(),
        "adaln_time_proj" => "time_embed.features".into(),
        "adaln_emb" => "condition".into(),
        "adaln_mod" => "modulation".into(),
        "tokens_with_pos" => "tokens".into(),
        "prepare_sequence" => "sequence".into(),
        "finalize_sequence" => "local_conv_out".into(),
        "proj_out_1" => "output.modulation".into(),
        "proj_out_2" => "output.proj".into(),
        other => other.strip_prefix("block.").map_or_else(|| other.to_owned(), |rest| format!("blocks.{rest}")),
    }
}

fn check_intermediates(
    network: &Dim,
    file: &File,
    seen: &BTreeMap<String, Tensor>,
    x: &Tensor,
    report: &mut Report,
) -> Result<(), ModelError> {
    let config = network.config();
    for (key, expected) in file.starting_with("mid.") {
        let name = intermediate(key);
        let Some(ours) = seen.get(&name) else { continue };
        let block = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        let ours = match block {
            Some(block) => in_scan_order(ours, block, config.depth, grid_of(x, config))?,
            None => ours.shallow_clone(),
        };
        let sinusoid = matches!(key, "time_sinusoid" | "adaln_time_proj");
        let tolerance = if sinusoid { SINUSOID_TOLERANCE } else { TINY_TOLERANCE };
        report.add(format!("mid.{key}"), difference(&ours, expected), tolerance);
    }
    Ok(())
}

fn check_gradients(network: &Dim, file: &File, report: &mut Report) -> Result<(), ModelError> {
    for (spec, tensor) in network.parameters().iter() {
        let Some((name, gradient)) = to_authors(&spec.name, &tensor.grad()) else { continue };
        if let Some(expected) = file.tensors.get(&format!("grads.{name}")) {
            report.add(format!("grads.{name}"), relative(&gradient, expected), GRADIENT_TOLERANCE);
        }
    }
    Ok(())
}

/// The same network with its own sinusoids, at other sizes, and with tuned skips.
fn check_variants(network: &Dim, file: &File, time: &TimeFeatures, report: &mut Report) -> Result<(), ModelError> {
    let (x, class) = (file.tensor("x")?, file.tensors.get("y"));
    let out = network.forward(x, file.tensor("t")?, class)?;
    report.add("out (own sinusoids)", difference(&out, file.tensor("out")?), SINUSOID_TOLERANCE);
    let mut compare = |key: &str, x: &Tensor, skip_tuning: Option<SkipTuning>| -> Result<(), ModelError> {
        if let Some(expected) = file.tensors.get(key) {
            let out = network.run(x, time, class, ForwardOptions { skip_tuning }, &mut Observer(None))?;
            report.add(key, difference(&out, expected), TINY_TOLERANCE);
        }
        Ok(())
    };
    compare("skiptune.out", x, Some(SkipTuning::as_published(0.82, 1.0)))?;
    compare("skiptune_strong.out", x, Some(SkipTuning { top: 0.82, bottom: 1.0 }))?;
    for size in ["alt_native", "alt_down"] {
        if let Some(x) = file.tensors.get(&format!("{size}.x")) {
            // The authors' flag changes nothing: the table is interpolated exactly when the grids differ.
            compare(&format!("{size}.out"), x, None)?;
            compare(&format!("{size}.out_use_pos_inteplot"), x, None)?;
        }
    }
    Ok(())
}
