//! The autoencoder: every intermediate, moments, latent and image.

use dim_torch::Parameters;
use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    File, Report, Setting, absent,
    compare::{self, Computed},
    difference,
};
use crate::{Autoencoder, AutoencoderConfig, ModelError, Precision, observer::Observer, procedural, weights};

/// Everything but images of the full network, absolute.
const TOLERANCE: f64 = 1e-5;
/// Images decoded by the full network, absolute; the published code itself, in f32, is off by 1.3e-5.
const FULL_IMAGE_TOLERANCE: f64 = 3e-5;

/// Checks an autoencoder: with the file's weights, or with weights computed from their names.
///
/// # Errors
/// A file without the keys or the configuration that such a file has.
pub fn autoencoder(file: &File, setting: Setting) -> Result<Report, ModelError> {
    let mut report = Report::default();
    let network = load(file, setting, &mut report)?;
    report.input(&["image", "noise"], file);
    let computed = no_grad(|| evaluate(&network, file, setting.device))?;
    if setting.precision == Precision::F32 {
        compare::in_f32(&computed, &mut report);
    } else {
        let setting = Setting { device: Device::Cpu, precision: Precision::Bf16Plain };
        let plain = load(file, setting, &mut Report::default())?;
        compare::in_bf16(&computed, &no_grad(|| evaluate(&plain, file, setting.device))?, &mut report)?;
    }
    Ok(report)
}

fn load(file: &File, setting: Setting, report: &mut Report) -> Result<Autoencoder, ModelError> {
    let config = config(file)?;
    let specs = config.parameter_specs();
    let parameters = Parameters::frozen(&specs, setting.device)?;
    let stored: Vec<(String, Tensor)> =
        file.starting_with("weights.").map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
    if stored.is_empty() {
        let seed = file.metadata("seed")?.parse().map_err(|_| absent("a whole number as `seed`"))?;
        procedural::fill(&parameters, seed)?;
    } else {
        weights::assign(&parameters, &stored).map_err(|error| ModelError::Input {
            argument: "weights",
            expected: "those of the configuration".into(),
            got: error.to_string(),
        })?;
    }
    for (prefix, tolerance) in [("weights.", 0.0), ("probe.", 1e-7)] {
        for (name, expected) in file.starting_with(prefix) {
            let ours = parameters.get(name)?.detach().flatten(0, -1);
            let count = i64::try_from(expected.numel()).unwrap_or(i64::MAX).min(ours.size()[0]);
            report.add(format!("{prefix}{name}"), difference(&ours.narrow(0, 0, count), expected), tolerance);
        }
    }
    Ok(Autoencoder::new(config, parameters)?.with_precision(setting.precision))
}

/// The published configuration (JSON, `ddconfig`) as ours.
fn config(file: &File) -> Result<AutoencoderConfig, ModelError> {
    let json: Value = serde_json::from_str(file.metadata("ddconfig")?).map_err(|_| absent("JSON as `ddconfig`"))?;
    let number = |key: &str| {
        json[key].as_u64().and_then(|value| usize::try_from(value).ok()).ok_or_else(|| absent("numbers in `ddconfig`"))
    };
    let numbers = |key: &str| {
        let values = json[key].as_array().ok_or_else(|| absent("lists of numbers in `ddconfig`"))?;
        let values = values.iter().map(|value| value.as_u64().and_then(|value| usize::try_from(value).ok()));
        values.collect::<Option<Vec<_>>>().ok_or_else(|| absent("lists of numbers in `ddconfig`"))
    };
    let resolution = number("resolution")?;
    let scaling_factor =
        file.metadata("scale_factor").map_or(Ok(AutoencoderConfig::kl_f8().scaling_factor), str::parse);
    Ok(AutoencoderConfig {
        in_channels: number("in_channels")?,
        latent_channels: number("z_channels")?,
        channels: number("ch")?,
        channel_mult: numbers("ch_mult")?,
        num_res_blocks: number("num_res_blocks")?,
        // The published code names the sides at which it attends of images of `resolution`.
        attention_downsampling: numbers("attn_resolutions")?.iter().map(|side| resolution / side.max(&1)).collect(),
        scaling_factor: scaling_factor.map_err(|_| absent("a number as `scale_factor`"))?,
    })
}

fn evaluate(network: &Autoencoder, file: &File, device: Device) -> Result<Vec<Computed>, ModelError> {
    let input = |key: &str| Ok::<_, ModelError>(file.tensor(key)?.to_device(device));
    let mut computed = Vec::new();
    let mut look = |name: &str, tensor: &Tensor| {
        if let Some(expected) = file.tensors.get(&format!("mid.{name}")) {
            computed.push(Computed::new(format!("mid.{name}"), &tensor.to_kind(Kind::Float), expected, TOLERANCE));
        }
    };
    let moments = network.encode_observed(&input("image")?, &mut Observer(Some(&mut look)))?;
    // The published latent is decoded, so that the two halves are judged each by itself.
    let decoded = network.decode_observed(&input("latent")?, &mut Observer(Some(&mut look)))?;
    let both = Tensor::f_cat(&[&moments.mean, &moments.log_variance], 1)?;
    computed.push(Computed::new("moments", &both, file.tensor("moments")?, TOLERANCE));
    computed.push(Computed::new("latent", &moments.sample(&input("noise")?)?, file.tensor("latent")?, TOLERANCE));
    let full = file.starting_with("weights.").next().is_none();
    let tolerance = if full { FULL_IMAGE_TOLERANCE } else { TOLERANCE };
    computed.push(Computed::new("decoded", &decoded, file.tensor("decoded")?, tolerance));
    Ok(computed)
}
