//! From text and overrides to a [`Config`]: the preset is filled in, and an error knows the file, the line and the key.

use std::collections::BTreeMap;

use dim_model::{DimConfig, DitConfig, ModelConfig, UnetConfig, UvitConfig};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::Config;
use super::explain::{self, Explained};
use crate::error::TrainerError;
use crate::format::alternatives;

/// As [`parse`], of the configuration of a run on a network, whose preset is filled in.
pub(super) fn parse_config(text: &str, origin: &str, overrides: &[String]) -> Result<Config, TrainerError> {
    parse(text, origin, overrides, |table| {
        fill_in_model(table).map_err(|(key, message)| Explained { key: key.to_owned(), message })?;
        // By itself first: the tagged enum that it is in a configuration no longer knows which of its keys is at fault.
        check_model(table)
    })
}

/// Parses TOML and applies the overrides; `complete` then sees the table. Values are not checked yet.
pub(super) fn parse<C: DeserializeOwned>(
    text: &str,
    origin: &str,
    overrides: &[String],
    complete: impl FnOnce(&mut Table) -> Result<(), Explained>,
) -> Result<C, TrainerError> {
    let mut source = Source { text, origin, set: BTreeMap::new() };
    let mut table: Table = toml::from_str(text).map_err(|error| TrainerError::ConfigSyntax {
        location: error
            .span()
            .map_or_else(|| origin.to_owned(), |span| format!("{origin}:{}", source.line(span.start))),
        message: error.message().to_owned(),
    })?;
    for assignment in overrides {
        let key = apply_override(&mut table, assignment)?;
        source.set.insert(key, assignment);
    }
    complete(&mut table).map_err(|explained| source.error(&explained.key, explained.message))?;
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let explained = explain::explain(&error.path().to_string(), error.inner().message());
        source.error(&explained.key, explained.message)
    })
}

struct Source<'a> {
    text: &'a str,
    origin: &'a str,
    /// The override that set each key last.
    set: BTreeMap<String, &'a str>,
}

impl Source<'_> {
    fn error(&self, key: &str, message: String) -> TrainerError {
        TrainerError::ConfigSyntax { location: self.location(key), message }
    }

    /// Where `key`, or the innermost section around it, was given.
    fn location(&self, key: &str) -> String {
        if let Some(assignment) = self.set.get(key) {
            return format!("--set {assignment}");
        }
        let document = DeTable::parse(self.text).ok();
        match document.and_then(|document| offset_of(document.get_ref(), key)) {
            Some(offset) => format!("{}:{}", self.origin, self.line(offset)),
            None => self.origin.to_owned(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }
}

/// The place of a dotted key's last part that the document has.
fn offset_of(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == first)?;
    let here = name.span().start;
    match (value.get_ref(), rest) {
        (DeValue::Table(inner), Some(rest)) => offset_of(inner, rest).or(Some(here)),
        _ => Some(here),
    }
}

/// Sets `a.b` in the table for `a.b=VALUE`; a value that is no TOML is a string. Returns the key.
fn apply_override(table: &mut Table, assignment: &str) -> Result<String, TrainerError> {
    let usage = |problem: String| TrainerError::Usage(format!("--set {assignment}: {problem}"));
    let (key, text) =
        assignment.split_once('=').ok_or_else(|| usage("expected KEY=VALUE, such as train.batch_size=64".into()))?;
    let (key, text) = (key.trim(), text.trim());
    let value = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut parsed| parsed.remove("value"));
    let value = value.unwrap_or_else(|| Value::String(text.to_owned()));

    let parts: Vec<&str> = key.split('.').collect();
    let Some((last, sections)) = parts.split_last().filter(|_| parts.iter().all(|part| !part.is_empty())) else {
        return Err(usage("expected a key such as train.batch_size before the =".into()));
    };
    let mut target = table;
    for section in sections {
        let entry = target.entry(*section).or_insert_with(|| Value::Table(Table::new()));
        let kind = entry.type_str();
        target = entry
            .as_table_mut()
            .ok_or_else(|| usage(format!("`{section}` is not a section but {} value", with_article(kind))))?;
    }
    target.insert((*last).to_owned(), value);
    Ok(key.to_owned())
}

/// Replaces `model.preset` by the preset's fields, where the file does not give them itself, and says which backbone it is.
fn fill_in_model(table: &mut Table) -> Result<(), (&'static str, String)> {
    let Some(model) = table.get_mut("model").and_then(Value::as_table_mut) else { return Ok(()) };
    let Some(preset) = model.remove("preset") else {
        // All there was before there were others.
        model.entry("backbone").or_insert_with(|| Value::String("dim".into()));
        return Ok(());
    };
    let fail = |message| Err(("model.preset", message));
    let Some(name) = preset.as_str() else {
        return fail(format!("`model.preset`: expected a string, got {} value", with_article(preset.type_str())));
    };
    let Some(config) = ModelConfig::named(name) else {
        return fail(format!(
            "`model.preset`: unknown preset `{name}`; {}",
            explain::suggest_name(name, ModelConfig::names())
        ));
    };
    let backbone = config.backbone();
    if let Some(other) = model.get("backbone").filter(|other| other.as_str() != Some(backbone)) {
        return fail(format!(
            "`model.preset`: `{name}` is a network of backbone `{backbone}`, and `model.backbone` is {other}"
        ));
    }
    for (key, value) in Table::try_from(config).map_err(|error| ("model.preset", error.to_string()))? {
        model.entry(key).or_insert(value);
    }
    Ok(())
}

/// Reads `[model]` as its backbone's section, for an error that names the key.
fn check_model(table: &Table) -> Result<(), Explained> {
    // What a file without the section lacks is told by the whole.
    let Some(Value::Table(model)) = table.get("model") else { return Ok(()) };
    let mut fields = model.clone();
    let backbone = fields.remove("backbone");
    match backbone.as_ref().and_then(Value::as_str) {
        Some("dim") => check_fields::<DimConfig>(fields),
        Some("dit") => check_fields::<DitConfig>(fields),
        Some("uvit") => check_fields::<UvitConfig>(fields),
        Some("unet") => check_fields::<UnetConfig>(fields),
        _ => {
            let got = backbone.map_or_else(|| "nothing".to_owned(), |backbone| backbone.to_string());
            let expected = alternatives(&ModelConfig::BACKBONES);
            let key = "model.backbone".to_owned();
            Err(Explained { message: format!("`{key}`: expected {expected}, got {got}"), key })
        }
    }
}

fn check_fields<T: DeserializeOwned>(fields: Table) -> Result<(), Explained> {
    let result: Result<T, _> = serde_path_to_error::deserialize(Value::Table(fields));
    result.map(drop).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => "model".to_owned(),
            path => format!("model.{path}"),
        };
        explain::explain(&path, error.inner().message())
    })
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}
