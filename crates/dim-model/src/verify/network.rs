//! The tiny networks: weights, every intermediate, output, loss, all gradients, other sizes, skip-tuning.

use std::collections::BTreeMap;

use dim_torch::Parameters;
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    File, GRADIENT_TOLERANCE, Report, Setting,
    compare::{self, Computed},
    difference, grid_of, in_scan_order,
};
use crate::{
    Backbone, BackboneConfig, Dim, DimConfig, ForwardOptions, ModelError, Precision, SkipTuning,
    dim::TimeFeatures,
    observer::Observer,
    weights::{
        self,
        names::{to_authors, to_ours},
    },
};

/// Outputs and intermediates of the tiny networks, absolute.
const TINY_TOLERANCE: f64 = 1e-5;
/// Sinusoids at t near 1000, where one rounding of a frequency moves a cosine by 3e-5; and outputs computed from them.
const SINUSOID_TOLERANCE: f64 = 1e-4;
/// Values of a gradient whose errors in bf16 set a bound for it alone.
const SET_A_BOUND: usize = 1024;

/// Checks a tiny network: weights, every intermediate, output, loss, all gradients, other sizes, skip-tuning.
///
/// # Errors
/// A file without the keys or the configuration that such a file has.
pub fn network(file: &File, setting: Setting) -> Result<Report, ModelError> {
    let mut report = Report::default();
    let network = load(file, setting.device)?.with_precision(setting.precision);
    check_weights(&network, file, &mut report);
    report.input(&["x", "t", "y", "target", "alt_native.x", "alt_down.x"], file);

    let computed = evaluate(&network, file, setting)?;
    if setting.precision == Precision::F32 {
        compare::in_f32(&computed, &mut report);
    } else {
        let setting = Setting { device: Device::Cpu, precision: Precision::Bf16Plain };
        let plain = load(file, setting.device)?.with_precision(setting.precision);
        let plain = evaluate(&plain, file, setting)?;
        compare::in_bf16(&computed, &plain, &mut report)?;
    }
    Ok(report)
}

/// The network of a file's configuration, with the file's weights.
fn load(file: &File, device: Device) -> Result<Dim, ModelError> {
    let config = DimConfig::from_authors_with_weights(
        file.metadata("config")?,
        file.tensors.keys().filter_map(|key| key.strip_prefix("weights.")),
    )?;
    let parameters = Parameters::zeros(&config.parameter_specs(), device)?;
    let ours: Vec<(String, Tensor)> = file
        .starting_with("weights.")
        // A name that is not the authors' stays, for `assign` to report it with all others that do not fit.
        .map(|(name, tensor)| to_ours(name, tensor).unwrap_or_else(|| (name.to_owned(), tensor.shallow_clone())))
        .collect();
    weights::assign(&parameters, &ours).map_err(|error| weights_error(&error))?;
    Dim::new(config, parameters)
}

/// Runs the network forward and backward, and at other sizes and with tuned skips forward.
fn evaluate(network: &Dim, file: &File, setting: Setting) -> Result<Vec<Computed>, ModelError> {
    let input = |key: &str| Ok::<_, ModelError>(file.tensor(key)?.to_device(setting.device));
    let (x, t, target) = (input("x")?, input("t")?, input("target")?);
    let class = file.tensors.get("y").map(|class| class.to_device(setting.device));
    let time = TimeFeatures { token: input("mid.time_sinusoid")?, embedding: input("mid.adaln_time_proj")? };

    // The stored sinusoids are injected, so that one rounding in them does not hide an error elsewhere.
    let mut seen = BTreeMap::new();
    let mut observer = |name: &str, tensor: &Tensor| {
        seen.insert(name.to_owned(), tensor.detach());
    };
    let options = ForwardOptions::default();
    let out = network.run(&x, &time, class.as_ref(), options, &mut Observer(Some(&mut observer)))?;
    let loss = (&out - target).square().mean(Kind::Float);
    loss.f_backward()?;
    let mut computed = vec![Computed::new("out", &out, file.tensor("out")?, TINY_TOLERANCE)];
    if let Some(expected) = file.tensors.get("f64.out") {
        computed.push(Computed::new("f64.out", &out, expected, TINY_TOLERANCE));
    }
    computed.push(Computed::new("loss", &loss, file.tensor("loss")?, TINY_TOLERANCE));

    let own = network.time_features(&t)?;
    seen.insert("time_token".into(), own.token);
    seen.insert("time_embed.features".into(), own.embedding);
    add_intermediates(network, file, &seen, &x, &mut computed)?;
    add_gradients(network, file, &mut computed);
    no_grad(|| add_variants(network, file, &time, setting, &mut computed))?;
    Ok(computed)
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

/// What is computed in f32 whatever the precision: all that comes before the first wide product, or beside them.
const ALWAYS_F32: [&str; 10] = [
    "patch_embed",
    "time_sinusoid",
    "class_embed",
    "adaln_time_proj",
    "adaln_emb",
    "adaln_mod",
    "tokens_with_pos",
    "prepare_sequence",
    "proj_out_1",
    "block.0.residual",
];

fn add_intermediates(
    network: &Dim,
    file: &File,
    seen: &BTreeMap<String, Tensor>,
    x: &Tensor,
    computed: &mut Vec<Computed>,
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
        let always_f32 = ALWAYS_F32.contains(&key);
        computed.push(Computed::new(format!("mid.{key}"), &ours, expected, tolerance).always_f32(always_f32));
    }
    Ok(())
}

fn add_gradients(network: &Dim, file: &File, computed: &mut Vec<Computed>) {
    for (spec, tensor) in network.parameters().iter() {
        let Some((name, gradient)) = to_authors(&spec.name, &tensor.grad()) else { continue };
        let key = format!("grads.{name}");
        if let Some(expected) = file.tensors.get(&key) {
            let gradient = Computed::new(key, &gradient, expected, GRADIENT_TOLERANCE).relative();
            let small = expected.numel() < SET_A_BOUND;
            computed.push(if small { gradient.of_group("small gradients") } else { gradient });
        }
    }
}

/// The same network with its own sinusoids, at other sizes, and with tuned skips.
fn add_variants(
    network: &Dim,
    file: &File,
    time: &TimeFeatures,
    setting: Setting,
    computed: &mut Vec<Computed>,
) -> Result<(), ModelError> {
    let on_device = |tensor: &Tensor| tensor.to_device(setting.device);
    let (x, t) = (on_device(file.tensor("x")?), on_device(file.tensor("t")?));
    let class = file.tensors.get("y").map(on_device);
    let out = network.forward(&x, &t, class.as_ref())?;
    computed.push(Computed::new("out (own sinusoids)", &out, file.tensor("out")?, SINUSOID_TOLERANCE));
    let mut compare = |key: &str, x: &Tensor, skip_tuning: Option<SkipTuning>| -> Result<(), ModelError> {
        if let Some(expected) = file.tensors.get(key) {
            let options = ForwardOptions { skip_tuning };
            let out = network.run(x, time, class.as_ref(), options, &mut Observer(None))?;
            computed.push(Computed::new(key, &out, expected, TINY_TOLERANCE));
        }
        Ok(())
    };
    compare("skiptune.out", &x, Some(SkipTuning::as_published(0.82, 1.0)))?;
    compare("skiptune_strong.out", &x, Some(SkipTuning { top: 0.82, bottom: 1.0 }))?;
    for size in ["alt_native", "alt_down"] {
        if let Some(x) = file.tensors.get(&format!("{size}.x")) {
            // The authors' flag changes nothing: the table is interpolated exactly when the grids differ.
            let x = on_device(x);
            compare(&format!("{size}.out"), &x, None)?;
            compare(&format!("{size}.out_use_pos_inteplot"), &x, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "bf16_tests.rs"]
mod bf16_tests;
