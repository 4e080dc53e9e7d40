//! Turns serde's messages into ours: the full key, what was expected, what came, and the nearest keys that exist.

use dim_model::{DimConfig, DitConfig, UnetConfig, UvitConfig};
use serde::de::DeserializeOwned;
use toml::Table;

use super::{Autoencoder, Config, Diffusion, Distributed, Ema, Evaluation, Sample, Train};
use crate::format::alternatives;

/// How alike two keys must be (Jaro–Winkler, 0 to 1) for one to be suggested for the other.
const ALIKE: f64 = 0.8;
const MAX_SUGGESTIONS: usize = 3;

pub(super) struct Explained {
    /// The full key at fault.
    pub(super) key: String,
    /// A sentence that names it.
    pub(super) message: String,
}

/// `path` is where serde stood, `message` what it said.
pub(super) fn explain(path: &str, message: &str) -> Explained {
    let path = if path == "." { "" } else { path };
    if let Some((field, valid)) = unknown_field(message) {
        // Some deserialisers report the section, others the key itself.
        let section = path.strip_suffix(&field).map_or(path, |section| section.trim_end_matches('.'));
        let key = join(section, &field);
        let message = format!("unknown key `{key}`; {}", suggest(section, &field, &valid));
        return Explained { key, message };
    }
    if let Some(field) = message.strip_prefix("missing field ").map(|field| field.trim_matches('`')) {
        let key = join(path, field);
        return Explained { message: format!("the key `{key}` is missing"), key };
    }
    let message = message.trim_end();
    let message = match message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.split_once(", expected "))
    {
        Some((got, expected)) => format!("`{path}`: expected {}, got {got}", in_words(expected)),
        None => format!("`{path}`: {message}"),
    };
    Explained { key: path.to_owned(), message }
}

/// The keys that a section has, asked of serde itself with a key that none has.
fn keys_of<T: DeserializeOwned>() -> Vec<String> {
    let probe = Table::from_iter([("?".to_owned(), toml::Value::Boolean(true))]);
    let error = probe.try_into::<T>().err().map(|error| error.message().to_owned());
    error.and_then(|message| unknown_field(&message)).map_or_else(Vec::new, |(_, valid)| valid)
}

/// Splits "unknown field `a`, expected one of `b`, `c`", the text of `serde::de::Error::unknown_field`.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2).map(str::to_owned);
    Some((quoted.next()?, quoted.collect()))
}

fn suggest(section: &str, field: &str, valid: &[String]) -> String {
    let mut near: Vec<(f64, String)> =
        valid.iter().map(|name| (strsim::jaro_winkler(field, name), join(section, name))).collect();
    let sections = [
        ("train", keys_of::<Train>()),
        ("train.distributed", keys_of::<Distributed>()),
        ("ema", keys_of::<Ema>()),
        ("evaluation", keys_of::<Evaluation>()),
        ("sample", keys_of::<Sample>()),
        ("diffusion", keys_of::<Diffusion>()),
        (
            "model",
            [keys_of::<DimConfig>(), keys_of::<DitConfig>(), keys_of::<UvitConfig>(), keys_of::<UnetConfig>()].concat(),
        ),
        ("autoencoder", keys_of::<Autoencoder>()),
    ];
    for (other, keys) in sections.iter().filter(|(other, _)| *other != section) {
        near.extend(keys.iter().filter(|key| *key == field).map(|key| (1.0, join(other, key))));
    }
    near.retain(|(alike, _)| *alike >= ALIKE);
    near.sort_by(|one, other| other.0.total_cmp(&one.0));
    near.dedup(); // several backbones share keys
    let names: Vec<String> = near.into_iter().map(|(_, name)| name).take(MAX_SUGGESTIONS).collect();
    if !names.is_empty() {
        return format!("did you mean {}?", alternatives(&names));
    }
    let place = if section.is_empty() { "the sections are".to_owned() } else { format!("the keys of [{section}] are") };
    let valid = if section.is_empty() { keys_of::<Config>() } else { valid.to_vec() };
    format!("{place} {}", valid.join(", "))
}

/// The names that are most alike, or all of them.
pub(super) fn suggest_name(name: &str, valid: Vec<String>) -> String {
    let mut near: Vec<(f64, &String)> = valid
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0));
    let near: Vec<&String> = near.into_iter().map(|(_, known)| known).take(MAX_SUGGESTIONS).collect();
    if near.is_empty() {
        format!("expected {}", alternatives(&valid))
    } else {
        format!("did you mean {}?", alternatives(&near))
    }
}

/// The names of Rust's types mean nothing to most users.
fn in_words(expected: &str) -> &str {
    match expected {
        "f64" | "f32" | "a floating point number" => "a number",
        "u64" | "u32" | "usize" => "a whole number, 0 or more",
        "i64" | "i32" => "a whole number",
        "a boolean" => "true or false",
        other => other.strip_prefix("struct ").map_or(other, |_| "a section"),
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}
