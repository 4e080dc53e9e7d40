//! DiT and U-ViT: weights, every intermediate, output, loss, all gradients; at full size with weights computed from their names.

use dim_torch::Parameters;
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    File, Report, Setting, absent,
    compare::{self, Computed},
    difference,
    published::{Network, network_of},
};
use crate::{
    BackboneConfig, Grid, ModelConfig, ModelError, Precision,
    layers::Stream,
    observer::Observer,
    procedural,
    weights::{self, NameTable},
};

/// Gradients, relative to the largest of their tensor, and absolute beside that.
const GRADIENT_TOLERANCES: (f64, f64) = (2e-4, 1e-6);
/// Sinusoids at t near 1000, where one rounding of a frequency moves a cosine by 4e-5.
const SINUSOID_TOLERANCE: f64 = 1e-4;
/// Low-variance tokens through one block or the last norm, which see the number added to the variance.
const EPS_TOLERANCE: f64 = 1e-4;
/// Root mean squares of the blocks of full-size networks, relative.
const RMS_TOLERANCE: f64 = 1e-5;
/// Values of a gradient whose errors in bf16 set a bound for it alone.
const SET_A_BOUND: usize = 1024;
/// What is computed in f32 whatever the precision.
const ALWAYS_F32: [&str; 4] = ["t_freq", "t_emb", "cond", "tokens"];

/// Checks a DiT or a U-ViT, which the names of the file's configuration tell apart.
///
/// # Errors
/// A file without the keys or the configuration that such a file has.
pub fn transformer(file: &File, setting: Setting) -> Result<Report, ModelError> {
    let mut report = Report::default();
    let config = network_of(file.metadata("config")?)?;
    report.input(&["x", "t", "y", "target", "eps.in", "eps.cond"], file);
    let network = load(&config, file, setting, &mut report)?;
    check_positions(&network, file, &mut report)?;
    if let Some(expected) = file.tensors.get("n_params") {
        let table = network.position_table()?.map_or(0, |table| table.numel() as i64);
        let ours = Tensor::from_slice(&[table + i64::try_from(config.parameter_count()).unwrap_or(i64::MAX)]);
        report.add("n_params", difference(&ours, expected), 0.0);
    }

    let computed = evaluate(&network, file, setting.device)?;
    if setting.precision == Precision::F32 {
        compare::in_f32(&computed, &mut report);
    } else {
        drop(network);
        let setting = Setting { device: Device::Cpu, precision: Precision::Bf16Plain };
        let plain = load(&config, file, setting, &mut Report::default())?;
        let plain = evaluate(&plain, file, setting.device)?;
        compare::in_bf16(&computed, &plain, &mut report)?;
    }
    Ok(report)
}

/// The network with the file's weights or, where the file has none, with those computed from its names.
fn load(config: &ModelConfig, file: &File, setting: Setting, report: &mut Report) -> Result<Network, ModelError> {
    let specs = config.parameter_specs();
    let stored: Vec<(String, Tensor)> = file
        .starting_with("weights.")
        .filter(|(name, _)| !is_computed(config, name))
        .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
        .collect();
    let mut parameters = Parameters::zeros(&specs, setting.device)?;
    if !file.tensors.contains_key("loss") {
        parameters = Parameters::from_flat(&specs, parameters.values())?; // frees the gradients
    }
    if stored.is_empty() {
        fill(&parameters, file, report)?;
    } else {
        weights::assign(&parameters, &stored).map_err(|error| ModelError::Input {
            argument: "weights",
            expected: "those of the configuration".into(),
            got: error.to_string(),
        })?;
        for (name, expected) in &stored {
            report.add(format!("weights.{name}"), difference(&parameters.get(name)?, expected), 0.0);
        }
    }
    Network::new(config, parameters, setting.precision)
}

fn is_computed(config: &ModelConfig, name: &str) -> bool {
    matches!(config.name_table(), NameTable::AsPublished(names) if names.computed.contains(&name))
}

/// Fills the parameters one by one, and checks the first values that the file lists.
fn fill(parameters: &Parameters, file: &File, report: &mut Report) -> Result<(), ModelError> {
    let seed = file.metadata("seed")?.parse().map_err(|_| absent("a whole number as `seed`"))?;
    procedural::fill(parameters, seed)?;
    for (name, expected) in file.starting_with("probe.").filter(|(name, _)| !name.starts_with("pos_embed.row")) {
        let ours = parameters.get(name)?.detach().flatten(0, -1);
        let count = expected.size()[0].min(ours.size()[0]);
        report.add(format!("probe.{name}"), difference(&ours.narrow(0, 0, count), expected), 1e-7);
    }
    Ok(())
}

/// DiT's table of positions, whole or a row of it.
fn check_positions(network: &Network, file: &File, report: &mut Report) -> Result<(), ModelError> {
    let Some(table) = network.position_table()? else { return Ok(()) };
    if let Some(expected) = file.tensors.get("weights.pos_embed") {
        report.add("weights.pos_embed", difference(&table, expected), 1e-6);
    }
    for (row, expected) in file.starting_with("probe.pos_embed.row") {
        let index = row.parse().map_err(|_| absent("probe.pos_embed.row37"))?;
        report.add(format!("probe.pos_embed.row{row}"), difference(&table.f_select(1, index)?, expected), 1e-6);
    }
    Ok(())
}

/// Runs the network forward, and backward if the file has a loss.
fn evaluate(network: &Network, file: &File, device: Device) -> Result<Vec<Computed>, ModelError> {
    let input = |key: &str| Ok::<_, ModelError>(file.tensor(key)?.to_device(device));
    let (x, t) = (input("x")?, input("t")?);
    let class = file.tensors.get("y").map(|class| class.to_device(device));
    let trains = file.tensors.contains_key("loss");
    let tolerance = network.tolerance();
    let sinusoid = network.sinusoid(&t)?;
    let mut computed = Vec::new();

    let mut look = |name: &str, tensor: &Tensor| {
        if let Some(expected) = file.tensors.get(&format!("mid.{name}")) {
            let mid = Computed::new(format!("mid.{name}"), tensor, expected, tolerance);
            computed.push(mid.always_f32(ALWAYS_F32.contains(&name)));
        }
        if let Some(expected) = file.tensors.get(&format!("{name}.rms")) {
            let rms = tensor.detach().to_kind(Kind::Double).square().mean(Kind::Double).sqrt().view([1]);
            computed.push(Computed::new(format!("{name}.rms"), &rms, expected, RMS_TOLERANCE).relative());
        }
    };
    let mut observer = Observer(Some(&mut look));
    let mut run = || network.run(&x, &sinusoid, class.as_ref(), &mut observer);
    let out = if trains { run()? } else { no_grad(run)? };
    computed.push(Computed::new("out", &out, file.tensor("out")?, tolerance));
    if let Some(expected) = file.tensors.get("mid.t_freq") {
        computed.push(Computed::new("mid.t_freq", &sinusoid, expected, SINUSOID_TOLERANCE).always_f32(true));
    }
    if trains {
        let loss = (&out - input("target")?).square().mean(Kind::Float);
        loss.f_backward()?;
        computed.push(Computed::new("loss", &loss, file.tensor("loss")?, tolerance));
        add_gradients(network, file, &mut computed);
    }
    no_grad(|| {
        add_guided(network, file, (&x, &t, class.as_ref()), &mut computed)?;
        add_low_variance(network, file, device, &mut computed)
    })?;
    Ok(computed)
}

fn add_gradients(network: &Network, file: &File, computed: &mut Vec<Computed>) {
    for (spec, tensor) in network.parameters().iter() {
        let key = format!("grads.{}", spec.name);
        let Some(expected) = file.tensors.get(&key) else { continue };
        let largest = super::largest(expected);
        let (relative, absolute) = GRADIENT_TOLERANCES;
        let scale = largest + absolute / relative;
        let gradient = Computed::new(key, &tensor.grad(), expected, relative).relative_to(scale);
        let small = expected.numel() < SET_A_BOUND;
        computed.push(if small { gradient.of_group("small gradients") } else { gradient });
    }
}

fn add_guided(
    network: &Network,
    file: &File,
    (x, t, class): (&Tensor, &Tensor, Option<&Tensor>),
    computed: &mut Vec<Computed>,
) -> Result<(), ModelError> {
    if let (Network::Dit(dit), Some(expected), Some(class)) = (network, file.tensors.get("cfg.out"), class) {
        let scale = file.metadata("cfg_scale")?.parse().map_err(|_| absent("a number as `cfg_scale`"))?;
        let guided = dit.forward_with_cfg(x, t, class, scale)?;
        computed.push(Computed::new("cfg.out", &guided, expected, network.tolerance()));
    }
    Ok(())
}

fn add_low_variance(
    network: &Network,
    file: &File,
    device: Device,
    computed: &mut Vec<Computed>,
) -> Result<(), ModelError> {
    let Some(tokens) = file.tensors.get("eps.in") else { return Ok(()) };
    let stream = Stream::new(tokens.to_device(device));
    let condition = file.tensors.get("eps.cond").map(|condition| condition.to_device(device).silu());
    let (block, last) = network.first_block_and_end(&stream, condition.as_ref())?;
    for (key, ours) in [("eps.block0.out", block), ("eps.final.out", last)] {
        computed.push(Computed::new(key, &ours, file.tensor(key)?, EPS_TOLERANCE));
    }
    Ok(())
}

/// The grid that the network is made for.
pub(super) fn own_grid(config: &impl BackboneConfig) -> Grid {
    Grid::square(config.image_size() / config.size_multiple())
}

#[cfg(test)]
#[path = "transformer_tests.rs"]
mod tests;
