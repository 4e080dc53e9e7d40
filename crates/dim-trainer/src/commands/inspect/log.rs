//! JSON: a log of one object a line, or one object.

use std::path::Path;

use serde_json::Value;

use super::report::Report;
use crate::error::TrainerError;
use crate::format::counted;

/// How many records there are, and the first and the last.
pub(super) fn report(path: &Path, text: &str) -> Result<Report, TrainerError> {
    let mut report = Report::new("log", path);
    if let Ok(whole) = serde_json::from_str::<Value>(text) {
        report.line(format_args!("{}: one JSON object\n{whole:#}", path.display()));
        report.field("records", 1);
        report.field("last", whole);
        return Ok(report);
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut records = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(record) => records.push(record),
            // A process that was killed leaves half a line.
            Err(_) if number + 1 == lines.len() => report.line("the last line is not whole"),
            Err(error) => {
                return Err(TrainerError::Unsupported(format!(
                    "{}: line {} is no JSON object ({error})",
                    path.display(),
                    number + 1
                )));
            }
        }
    }
    report.line(format_args!("{}: {}, one a line", path.display(), counted(records.len(), "JSON object")));
    for (name, record) in [("first", records.first()), ("last", records.last())] {
        if let Some(record) = record {
            report.line(format_args!("{name}: {record}"));
            report.field(name, record);
        }
    }
    report.field("records", records.len());
    Ok(report)
}
