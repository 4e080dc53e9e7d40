//! The full-size networks, whose weights are computed from their names.

use std::collections::BTreeMap;

use dim_torch::{ParameterSpec, Parameters};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    File, GRADIENT_TOLERANCE, Report, Setting, absent,
    compare::{self, Computed},
    difference, grid_of, in_scan_order, largest,
};
use crate::{
    Backbone, BackboneConfig, Dim, DimConfig, ForwardOptions, ModelError, Precision,
    observer::Observer,
    procedural,
    weights::names::{to_authors, to_ours},
};

/// Outputs of the full-size networks, absolute.
const FULL_TOLERANCE: f64 = 2e-5;
/// Intermediates of the full-size networks, relative to the largest of the tensor that they are samples of.
const PROBE_TOLERANCE: f64 = 2e-6;

/// Checks a full-size network whose weights are computed from their names: samples of every block, output, and where the
/// file has them loss and gradients.
///
/// # Errors
/// A file without the keys or the configuration that such a file has.
pub fn full_size(file: &File, setting: Setting) -> Result<Report, ModelError> {
    let mut report = Report::default();
    let config = DimConfig::from_authors(file.metadata("config")?)?;
    let seed = file.metadata("seed")?;
    let seed: u64 = seed.parse().map_err(|_| ModelError::Input {
        argument: "seed",
        expected: "a whole number".into(),
        got: seed.to_owned(),
    })?;
    let trains = file.tensors.contains_key("loss");
    let network = procedural_network(&config, seed, trains, setting.device, file, &mut report)?;
    let network = network.with_precision(setting.precision);
    report.input(&["x", "t", "y", "target"], file);

    let computed = evaluate(&network, file, setting.device)?;
    if setting.precision == Precision::F32 {
        compare::in_f32(&computed, &mut report);
    } else {
        drop(network);
        // Its weights were checked above, on the device.
        let plain = procedural_network(&config, seed, trains, Device::Cpu, file, &mut Report::default())?;
        let plain = evaluate(&plain.with_precision(Precision::Bf16Plain), file, Device::Cpu)?;
        compare::in_bf16(&computed, &plain, &mut report)?;
    }
    Ok(report)
}

/// Runs the network forward, and backward if the file has a loss.
fn evaluate(network: &Dim, file: &File, device: Device) -> Result<Vec<Computed>, ModelError> {
    let config = network.config();
    let input = |key: &str| Ok::<_, ModelError>(file.tensor(key)?.to_device(device));
    let (x, t) = (input("x")?, input("t")?);
    let class = file.tensors.get("y").map(|class| class.to_device(device));
    let mut seen = Vec::new();
    let mut observer = |name: &str, tensor: &Tensor| {
        if name.ends_with(".hidden") || name.ends_with(".residual") {
            seen.push((name.to_owned(), sample(name, tensor, config, &x)));
        }
    };
    let time = network.time_features(&t)?;
    let options = ForwardOptions::default();
    let mut run = || network.run(&x, &time, class.as_ref(), options, &mut Observer(Some(&mut observer)));
    let trains = file.tensors.contains_key("loss");
    let out = if trains { run()? } else { no_grad(run)? };
    let mut computed = vec![Computed::new("out", &out, file.tensor("out")?, FULL_TOLERANCE)];
    add_samples(seen, file, &mut computed)?;
    if trains {
        let loss = (&out - input("target")?).square().mean(Kind::Float);
        loss.f_backward()?;
        computed.push(Computed::new("loss", &loss, file.tensor("loss")?, FULL_TOLERANCE));
        add_gradient_norms(network, file, &mut computed);
    }
    Ok(computed)
}

/// Fills the network tensor by tensor, and checks the first values that the file lists.
fn procedural_network(
    config: &DimConfig,
    seed: u64,
    trains: bool,
    device: Device,
    file: &File,
    report: &mut Report,
) -> Result<Dim, ModelError> {
    let specs = config.parameter_specs();
    let mut parameters = Parameters::zeros(&specs, device)?;
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
    let picked = Tensor::from_slice(&[0, 1, 2, 5, 6, tokens / 2, tokens - 1]).to_device(tensor.device());
    let probe = ordered.select(0, 0).index_select(0, &picked).narrow(1, 0, 16);
    let rms = ordered.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[]);
    Ok(Sample { probe, rms, largest: largest(&ordered) })
}

fn add_samples(
    seen: Vec<(String, Result<Sample, ModelError>)>,
    file: &File,
    computed: &mut Vec<Computed>,
) -> Result<(), ModelError> {
    let mut rms = BTreeMap::new();
    for (name, sample) in seen {
        let sample = sample?;
        let key = name.replacen("blocks.", "block.", 1);
        if let Some(expected) = file.tensors.get(&format!("{key}_probe")) {
            let probe = Computed::new(format!("{key}_probe"), &sample.probe, expected, PROBE_TOLERANCE);
            computed.push(probe.relative_to(sample.largest).always_f32(key == "block.0.residual"));
        }
        rms.insert(key, sample.rms);
    }
    for (key, expected) in file.starting_with("block.").filter(|(key, _)| key.ends_with(".rms")) {
        let block = key.trim_end_matches(".rms");
        let of = |part: &str| rms.get(&format!("block.{block}.{part}")).copied().unwrap_or(f64::NAN);
        let ours = Tensor::from_slice(&[of("hidden"), of("residual")]);
        computed.push(Computed::new(format!("block.{key}"), &ours, expected, PROBE_TOLERANCE).relative());
    }
    Ok(())
}

/// Each gradient's norm and first seven values, relative to its norm and to its largest value.
fn add_gradient_norms(network: &Dim, file: &File, computed: &mut Vec<Computed>) {
    for (spec, tensor) in network.parameters().iter() {
        let Some((name, gradient)) = to_authors(&spec.name, &tensor.grad()) else { continue };
        let key = format!("gradnorm.{name}");
        if let Some(expected) = file.tensors.get(&key) {
            let gradient = gradient.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1);
            let expected = expected.to_kind(Kind::Double);
            let count = (expected.size()[0] - 1).min(gradient.size()[0]);
            let nonzero = |value: f64| if value > 0.0 { value } else { 1.0 };
            let scales = [nonzero(expected.double_value(&[0])), nonzero(largest(&gradient))];
            let scaled = |norm: Tensor, first: Tensor| Tensor::cat(&[norm / scales[0], first / scales[1]], 0);
            let ours = scaled(gradient.norm().view([1]), gradient.narrow(0, 0, count));
            let expected = scaled(expected.narrow(0, 0, 1), expected.narrow(0, 1, count));
            computed.push(Computed::new(key, &ours, &expected, GRADIENT_TOLERANCE).of_group("gradients"));
        }
    }
}
