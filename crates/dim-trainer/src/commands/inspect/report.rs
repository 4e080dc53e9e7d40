//! What `inspect` found: lines for people and the same as JSON.

use std::fmt::Display;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

/// One subject's report, as it grows.
pub(super) struct Report {
    text: String,
    fields: Map<String, Value>,
}

impl Report {
    /// An empty report of `what`, such as `checkpoint`, at `path`.
    pub(super) fn new(what: &str, path: &Path) -> Self {
        let mut report = Self { text: String::new(), fields: Map::new() };
        report.field("what", what);
        report.field("path", path.display().to_string());
        report
    }

    /// Adds a line for people.
    pub(super) fn line(&mut self, line: impl Display) {
        self.text.push_str(&format!("{line}\n"));
    }

    /// Adds a field for programs; what has no JSON form is left out.
    pub(super) fn field(&mut self, name: &str, value: impl Serialize) {
        if let Ok(value) = serde_json::to_value(value) {
            self.fields.insert(name.to_owned(), value);
        }
    }

    /// All lines.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// One JSON object.
    pub(super) fn json(&self) -> Value {
        Value::Object(self.fields.clone())
    }
}
