//! What a run trains, told from its configuration.

use std::fs;
use std::path::Path;

use dim_model::{BackboneConfig, ModelConfig};
use dim_report::training::Preset;
use toml::{Table, Value};

use crate::config::{AutoencoderRun, Config, RunConfig};
use crate::error::TrainerError;
use crate::format::{counted, thousands};

/// All of it.
pub(super) struct Description {
    pub subject: String,
    pub facts: Vec<(String, String)>,
    /// Images to be seen.
    pub images: u64,
    pub preset: Option<Preset>,
    pub settings: Vec<(String, String)>,
    /// The file.
    pub text: String,
}

/// Settings that are told first, with the names that people have for them.
const FIRST: [(&str, &str); 9] = [
    ("data.source", "images from"),
    ("data.path", "folder"),
    ("train.batch_size", "batch"),
    ("train.lr", "learning rate"),
    ("train.ema_decay", "moving average"),
    ("train.precision", "precision"),
    ("diffusion.schedule", "schedule"),
    ("diffusion.prediction", "prediction"),
    ("train.seed", "seed"),
];

/// Reads the configuration of a run of either kind.
///
/// # Errors
/// [`TrainerError::ConfigFile`], and what is wrong in it.
pub(super) fn describe(path: &Path) -> Result<Description, TrainerError> {
    let text = fs::read_to_string(path).map_err(|source| TrainerError::ConfigFile { path: path.to_owned(), source })?;
    let origin = path.display().to_string();
    // Only a run of `train` has a network that is no autoencoder.
    let is_autoencoder =
        text.parse::<Table>().is_ok_and(|table| !table.contains_key("model") && table.contains_key("autoencoder"));
    let (subject, preset, images, table) = if is_autoencoder {
        let config = AutoencoderRun::parse(&text, &origin, &[])?;
        let parameters = config.autoencoder.parameter_specs().iter().map(|spec| spec.elements() as u64).sum();
        let size = config.image_size;
        let subject =
            format!("An autoencoder of {} parameters on images of {size} x {size} pixels", thousands(parameters));
        (subject, None, config.train.images, as_table(&config))
    } else {
        let config = <Config as RunConfig>::parse(&text, &origin, &[])?;
        (subject(&config), preset(&config.model), config.train.images, as_table(&config))
    };
    let mut settings = Vec::new();
    flatten("", &table, &mut settings);
    let facts = FIRST.iter().filter_map(|(key, name)| {
        let (_, value) = settings.iter().find(|(known, _)| known == key)?;
        Some(((*name).to_owned(), value.trim_matches('"').to_owned()))
    });
    Ok(Description { subject, facts: facts.collect(), images, preset, text, settings: settings.clone() })
}

fn subject(config: &Config) -> String {
    let name = match config.model.backbone() {
        "dit" => "A DiT",
        "uvit" => "A U-ViT",
        "unet" => "A U-Net",
        _ => "A DiM",
    };
    let parameters: u64 = config.model.parameter_specs().iter().map(|spec| spec.elements() as u64).sum();
    let size = config.data_size();
    let on = match &config.autoencoder {
        Some(_) => format!("latents of images of {size} x {size} pixels"),
        None => format!("images of {size} x {size} pixels"),
    };
    let of = if config.unconditional() {
        "without classes".to_owned()
    } else {
        format!("of {}", counted(config.model.classes(), "class"))
    };
    format!("{name} of {} parameters on {on} {of}", thousands(parameters))
}

/// The preset that the network differs from in the fewest keys, if it has most of them in common with one.
fn preset(model: &ModelConfig) -> Option<Preset> {
    let here = flat(model);
    let of = |name: String| {
        let there = ModelConfig::named(&name).filter(|preset| preset.backbone() == model.backbone())?;
        let there = flat(&there);
        let value = |all: &[(String, String)], key: &String| {
            all.iter().find(|(known, _)| known == key).map_or_else(|| "absent".to_owned(), |(_, value)| value.clone())
        };
        let mut keys: Vec<&String> = here.iter().chain(&there).map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        let row = |key: &String| [key.clone(), value(&there, key), value(&here, key)];
        let differences = keys.into_iter().map(row).filter(|[_, there, here]| there != here).collect();
        Some(Preset { name, differences })
    };
    let nearest = ModelConfig::names().into_iter().filter_map(of).min_by_key(|preset| preset.differences.len())?;
    (2 * nearest.differences.len() <= here.len()).then_some(nearest)
}

fn flat(model: &ModelConfig) -> Vec<(String, String)> {
    let mut found = Vec::new();
    flatten("model", &as_table(model), &mut found);
    found
}

fn as_table(config: &impl serde::Serialize) -> Table {
    Table::try_from(config).unwrap_or_default()
}

/// Dotted keys and values.
fn flatten(section: &str, table: &Table, found: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, found),
            other => found.push((key, other.to_string())),
        }
    }
}
