//! Files of weights: snapshots, checkpoints, stored averages, autoencoders, and weights from elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use dim_model::AutoencoderConfig;
use dim_model::weights::{FileFormat, Holder, WeightFile, names, recognise};
use dim_torch::ParameterSpec;
use serde_json::json;
use tch::Kind;

use super::network;
use super::report::Report;
use crate::config::{AutoencoderRun, Config, RunConfig};
use crate::ema::snapshot as averages;
use crate::error::TrainerError;
use crate::first_stage;
use crate::format::{counted, thousands};
use crate::snapshot;
use crate::train::checkpoint;

/// Metadata that are shown as they are; the others are long or shown otherwise.
const SHOWN: [&str; 5] = ["images_seen", "step", "weights", "profile_error", "device"];

/// What a file of weights holds. A checkpoint and stored averages are read to their end and checked.
pub(super) fn report(path: &Path) -> Result<Report, TrainerError> {
    let file = WeightFile::open(path)?;
    let config = snapshot::config_of(&file)?;
    let holder = recognise(&file);
    let what = match (file.metadata().get("kind").map(String::as_str), holder, &config) {
        (Some(Config::CHECKPOINT), ..) => "checkpoint",
        (Some(AutoencoderRun::CHECKPOINT), ..) => "checkpoint of an autoencoder",
        (Some(averages::KIND), ..) => "averages of weights",
        (_, Holder::Autoencoder, _) => "autoencoder",
        (_, _, Some(_)) => "weights with their configuration",
        (_, Holder::Dim, None) => "weights of a DiM",
        (_, Holder::Other, None) => "tensors",
    };
    let mut report = Report::new(what, path);
    let format = match file.format() {
        FileFormat::Safetensors => "safetensors",
        FileFormat::PyTorch => "PyTorch",
    };
    report.field("format", format);
    report.line(format_args!(
        "{}: {what}, {format}, {}{}",
        path.display(),
        counted(file.entries().len(), "tensor"),
        names_of(&file, holder).map_or_else(String::new, |names| format!(" under {names} names")),
    ));
    report.field("names", names_of(&file, holder));
    kinds(&mut report, &file);
    for key in SHOWN {
        if let Some(value) = file.metadata().get(key) {
            report.line(format_args!("  {key}: {value}"));
        }
    }
    report.field("metadata", file.metadata());
    let tensor = |entry: &dim_model::weights::Entry| json!({"name": entry.name, "shape": entry.shape, "dtype": name_of(entry.kind)});
    report.field("tensors", file.entries().iter().map(tensor).collect::<Vec<_>>());

    match what {
        "checkpoint" => {
            checkpoint::about::<Config>(path)?;
            report.line("  its checksum is right");
            report.field("good", true);
        }
        "checkpoint of an autoencoder" => {
            checkpoint::about::<AutoencoderRun>(path)?;
            report.line("  its checksum is right");
            report.field("good", true);
        }
        "averages of weights" => {
            let about = averages::about(path)?;
            report.line(format_args!("  its checksum is right; widths of the profiles: {:?}", about.sigma_rel));
            report.field("good", true);
        }
        _ => {}
    }
    match (config, holder) {
        (Some(config), _) => network::describe(&mut report, &config),
        (None, Holder::Autoencoder) => {
            autoencoder(&mut report, first_stage::sizes_of(&file)?);
            network::parts(&mut report, &specs(&file));
        }
        (None, _) => {
            network::parts(&mut report, &specs(&file));
            report.line("\nThe file carries no configuration; `inspect --config` shows token counts and costs.");
        }
    }
    Ok(report)
}

/// What an autoencoder says of its sizes.
pub(super) fn autoencoder(report: &mut Report, sizes: Option<AutoencoderConfig>) {
    if let Some(sizes) = &sizes {
        report.line(format_args!(
            "  {} channels and {} times smaller: {}",
            sizes.latent_channels,
            sizes.downsampling(),
            json!(sizes)
        ));
    }
    report.field("sizes", sizes);
}

fn specs(file: &WeightFile) -> Vec<ParameterSpec> {
    file.entries().iter().map(|entry| ParameterSpec::new(entry.name.clone(), &entry.shape)).collect()
}

/// How many numbers there are of each type.
fn kinds(report: &mut Report, file: &WeightFile) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in file.entries() {
        *counts.entry(name_of(entry.kind)).or_default() += entry.shape.iter().product::<i64>().unsigned_abs();
    }
    let line: Vec<String> = counts.iter().map(|(kind, count)| format!("{} {kind}", thousands(*count))).collect();
    report.line(format_args!("  numbers: {}", line.join(", ")));
    report.field("numbers", counts);
}

/// Whose names the keys are, if that is known.
fn names_of(file: &WeightFile, holder: Holder) -> Option<&'static str> {
    let any = |known: &dyn Fn(&str) -> bool| file.entries().iter().any(|entry| known(&entry.name));
    match holder {
        Holder::Dim if any(&|name| names::name_to_authors(name).is_some()) => Some("our"),
        Holder::Dim => Some("the authors'"),
        Holder::Autoencoder if any(&|name| name.contains("_blocks.")) => Some("diffusers'"),
        Holder::Autoencoder => Some("the published"),
        Holder::Other => None,
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "f32",
        Kind::Half => "f16",
        Kind::BFloat16 => "bf16",
        Kind::Double => "f64",
        Kind::Int64 => "i64",
        Kind::Int => "i32",
        Kind::Int16 => "i16",
        Kind::Int8 => "i8",
        Kind::Uint8 => "u8",
        Kind::Bool => "bool",
        _ => "other",
    }
}
