//! Comparison with the published implementation: files of tensors that it computed, checked key by key.
//!
//! `dim-trainer verify` prints what these functions return, and this crate's tests run them on the repository's files.

use std::collections::BTreeMap;

use dim_torch::{ParameterSpec, Parameters};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{
    Dim, DimConfig, ForwardOptions, Grid, ModelError, SkipTuning,
    dim::Observer,
    directions,
    embedding::TimeFeatures,
    procedural,
    weights::{
        self,
        names::{to_authors, to_ours},
    },
};

/// Outputs and intermediates of the tiny networks, absolute.
const TINY_TOLERANCE: f64 = 1e-5;
/// Gradients, relative to the largest of their tensor.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// Sinusoids at t near 1000, where one rounding of a frequency moves a cosine by 3e-5; and outputs computed from them.
const SINUSOID_TOLERANCE: f64 = 1e-4;
/// Outputs of the full-size networks, absolute.
const FULL_TOLERANCE: f64 = 2e-5;
/// Intermediates of the full-size networks, relative to the largest of the tensor that they are samples of.
const PROBE_TOLERANCE: f64 = 2e-6;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Key of the tensor in the file.
    pub tensor: String,
    /// Largest error, absolute or relative as the tolerance is meant.
    pub error: f64,
    /// Largest error that a correct implementation makes.
    pub tolerance: f64,
}

/// A file's tensors and its metadata.
pub struct File {
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

impl File {
    /// The tensors and the metadata of one file.
    #[must_use]
    pub fn new(
        tensors: impl IntoIterator<Item = (String, Tensor)>,
        metadata: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self { tensors: tensors.into_iter().collect(), metadata: metadata.into_iter().collect() }
    }

    fn tensor(&self, key: &str) -> Result<&Tensor, ModelError> {
        self.tensors.get(key).ok_or_else(|| absent(key))
    }

    fn metadata(&self, key: &str) -> Result<&str, ModelError> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| absent(key))
    }

    fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.tensors.iter().filter_map(move |(key, tensor)| Some((key.strip_prefix(prefix)?, tensor)))
    }
}

fn absent(key: &str) -> ModelError {
    ModelError::Input { argument: "file", expected: format!("a file with the key `{key}`"), got: "one without".into() }
}

/// The comparisons of one file.
#[derive(Default)]
pub struct Report {
    /// What was compared.
    pub checks: Vec<Check>,
    /// Keys that were read as inputs, and so have nothing to be compared with.
    pub inputs: Vec<String>,
}

impl Report {
    fn add(&mut self, tensor: impl Into<String>, error: f64, tolerance: f64) {
        // A NaN compares as no error at all; it is the worst there is.
        let error = if error.is_nan() { f64::INFINITY } else { error };
        self.checks.push(Check { tensor: tensor.into(), error, tolerance });
    }

    fn input(&mut self, keys: &[&str], file: &File) {
        self.inputs.extend(keys.iter().filter(|key| file.tensors.contains_key(**key)).map(|key| (*key).to_owned()));
    }
}

/// Largest absolute difference; infinite where the sizes differ.
fn difference(ours: &Tensor, expected: &Tensor) -> f64 {
    if ours.numel() != expected.numel() {
        return f64::INFINITY;
    }
    let double = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double).flatten(0, -1);
    (double(ours) - double(expected)).abs().max().double_value(&[])
}

/// Largest absolute value.
fn largest(tensor: &Tensor) -> f64 {
    tensor.detach().to_kind(Kind::Double).abs().max().double_value(&[])
}

/// Largest difference, relative to the largest expected value; absolute where that is zero.
fn relative(ours: &Tensor, expected: &Tensor) -> f64 {
    let scale = largest(expected);
    difference(ours, expected) / if scale > 0.0 { scale } else { 1.0 }
}

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

/// A block's sequence in the order in which the authors' code holds it: that of the block's own scan.
fn in_scan_order(tensor: &Tensor, block: usize, depth: usize, grid: Grid) -> Result<Tensor, ModelError> {
    let map = directions(depth)[block].token_map(grid);
    let order: Vec<i64> = map.as_slice().iter().map(|&token| i64::from(token)).collect();
    Ok(tensor.f_index_select(1, &Tensor::from_slice(&order)).map_err(dim_torch::TorchError::from)?)
}

fn grid_of(x: &Tensor, config: &DimConfig) -> Grid {
    let side = |size: i64| usize::try_from(size).unwrap_or(0) / config.patch_size;
    Grid { rows: side(x.size()[2]), columns: side(x.size()[3]) }
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

/// Checks the weights of the long skips that a schedule file lists (`skiptune.*`).
///
/// # Errors
/// A file without the layers that the weights belong to.
pub fn skip_weights(file: &File) -> Result<Report, ModelError> {
    let mut report = Report::default();
    for (depth, layers) in file.starting_with("skiptune.layers.") {
        let Ok(blocks) = depth.parse::<usize>() else { continue };
        let first = blocks - (blocks - 1) / 2;
        let decoder: Vec<i64> = (first..blocks).filter_map(|block| i64::try_from(block).ok()).collect();
        report.add(format!("skiptune.layers.{depth}"), difference(&Tensor::from_slice(&decoder), layers), 0.0);
        let meant = SkipTuning { top: 0.82, bottom: 1.0 };
        for (key, tuning) in [
            (format!("skiptune.weights_bottom1_top0.82.{depth}"), meant),
            (format!("skiptune.weights_effective_official.{depth}"), SkipTuning::as_published(0.82, 1.0)),
        ] {
            let weights: Vec<f64> = (first..blocks).map(|block| tuning.weight(block, first, blocks)).collect();
            report.add(&*key, difference(&Tensor::from_slice(&weights), file.tensor(&key)?), TINY_TOLERANCE);
        }
    }
    Ok(report)
}

/// Checks a full-size network whose weights are computed from their names: samples of every block, output, and where the
/// file has them loss and gradients.
///
/// # Errors
/// A file without the keys or the configuration that such a file has.
pub fn full_size(file: &File) -> Result<Report, ModelError> {
    let mut report = Report::default();
    let config = DimConfig::from_authors(file.metadata("config")?)?;
    let seed = file.metadata("seed")?;
    let seed: u64 = seed.parse().map_err(|_| ModelError::Input {
        argument: "seed",
        expected: "a whole number".into(),
        got: seed.to_owned(),
    })?;
    let trains = file.tensors.contains_key("loss");
    let network = procedural_network(&config, seed, trains, file, &mut report)?;

    report.input(&["x", "t", "y", "target"], file);
    let (x, t, class) = (file.tensor("x")?, file.tensor("t")?, file.tensors.get("y"));
    let mut seen = Vec::new();
    let mut observer = |name: &str, tensor: &Tensor| {
        if name.ends_with(".hidden") || name.ends_with(".residual") {
            seen.push((name.to_owned(), sample(name, tensor, &config, x)));
        }
    };
    let time = TimeFeatures::new(t, &config)?;
    let mut run = || network.run(x, &time, class, ForwardOptions::default(), &mut Observer(Some(&mut observer)));
    let out = if trains { run()? } else { no_grad(run)? };
    report.add("out", difference(&out, file.tensor("out")?), FULL_TOLERANCE);
    check_samples(seen, file, &mut report)?;
    if trains {
        let loss = (&out - file.tensor("target")?).square().mean(Kind::Float);
        loss.f_backward()?;
        report.add("loss", difference(&loss, file.tensor("loss")?), FULL_TOLERANCE);
        check_gradient_norms(&network, file, &mut report);
    }
    Ok(report)
}

/// Fills the network tensor by tensor, and checks the first values that the file lists.
fn procedural_network(
    config: &DimConfig,
    seed: u64,
    trains: bool,
    file: &File,
    report: &mut Report,
) -> Result<Dim, ModelError> {
    let specs = config.parameter_specs();
    let mut parameters = Parameters::zeros(&specs, Device::Cpu)?;
    if !trains {
        parameters = Parameters::from_flat(&specs, parameters.values())?; // frees the gradients
    }
    for (spec, tensor) in parameters.iter() {
        let (name, like) = to_authors(&spec.name, &tensor.detach()).ok_or_else(|| absent(&spec.name))?;
        let spec = ParameterSpec::new(name, &like.size());
        let fresh = Tensor::from_slice(&procedural::weights(&spec, seed));
        if let Some(expected) = file.tensors.get(&format!("probe.{}", spec.name)) {
            let count = expected.size()[0].min(fresh.numel() as i64);
            report.add(format!("probe.{}", spec.name), difference(&fresh.narrow(0, 0, count), expected), 1e-7);
        }
        let fresh = fresh.f_view(spec.shape.as_slice())?;
        let (_, fresh) = to_ours(&spec.name, &fresh).ok_or_else(|| absent(&spec.name))?;
        no_grad(|| tensor.shallow_clone().f_copy_(&fresh))?;
    }
    Dim::new(config.clone(), parameters)
}

/// What a file keeps of a block's tensor, and the scale of that tensor.
struct Sample {
    /// Seven tokens in the order of the block's scan, 16 channels, of the first image.
    probe: Tensor,
    /// Root mean square of the whole tensor.
    rms: f64,
    /// Its largest absolute value.
    largest: f64,
}

fn sample(name: &str, tensor: &Tensor, config: &DimConfig, x: &Tensor) -> Result<Sample, ModelError> {
    let block = name.split('.').nth(1).and_then(|index| index.parse().ok()).unwrap_or(0);
    let ordered = in_scan_order(&tensor.detach(), block, config.depth, grid_of(x, config))?;
    let tokens = ordered.size()[1];
    let picked = Tensor::from_slice(&[0, 1, 2, 5, 6, tokens / 2, tokens - 1]);
    let probe = ordered.select(0, 0).index_select(0, &picked).narrow(1, 0, 16);
    let rms = ordered.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[]);
    Ok(Sample { probe, rms, largest: largest(&ordered) })
}

fn check_samples(
    seen: Vec<(String, Result<Sample, ModelError>)>,
    file: &File,
    report: &mut Report,
) -> Result<(), ModelError> {
    let mut rms = BTreeMap::new();
    for (name, sample) in seen {
        let sample = sample?;
        let key = name.replacen("blocks.", "block.", 1);
        if let Some(expected) = file.tensors.get(&format!("{key}_probe")) {
            let error = difference(&sample.probe, expected) / sample.largest;
            report.add(format!("{key}_probe"), error, PROBE_TOLERANCE);
        }
        rms.insert(key, sample.rms);
    }
    for (key, expected) in file.starting_with("block.").filter(|(key, _)| key.ends_with(".rms")) {
        let block = key.trim_end_matches(".rms");
        let of = |part: &str| rms.get(&format!("block.{block}.{part}")).copied().unwrap_or(f64::NAN);
        let ours = Tensor::from_slice(&[of("hidden"), of("residual")]);
        report.add(format!("block.{key}"), relative(&ours, expected), PROBE_TOLERANCE);
    }
    Ok(())
}

/// Each gradient's norm and first seven values, relative to its norm and to its largest value.
fn check_gradient_norms(network: &Dim, file: &File, report: &mut Report) {
    for (spec, tensor) in network.parameters().iter() {
        let Some((name, gradient)) = to_authors(&spec.name, &tensor.grad()) else { continue };
        let key = format!("gradnorm.{name}");
        if let Some(expected) = file.tensors.get(&key) {
            let gradient = gradient.to_kind(Kind::Double).flatten(0, -1);
            let norm = gradient.norm().double_value(&[]);
            let expected_norm = expected.double_value(&[0]);
            let count = (expected.size()[0] - 1).min(gradient.size()[0]);
            let first = difference(&gradient.narrow(0, 0, count), &expected.narrow(0, 1, count));
            let scale = |value: f64| if value > 0.0 { value } else { 1.0 };
            let error = ((norm - expected_norm).abs() / scale(expected_norm)).max(first / scale(largest(&gradient)));
            report.add(key, error, GRADIENT_TOLERANCE);
        }
    }
}
