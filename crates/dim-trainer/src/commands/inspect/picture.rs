//! A PNG, and what it says of how it was drawn.

use std::path::Path;

use serde_json::Value;

use super::report::Report;
use crate::error::TrainerError;
use crate::png_file;
use crate::provenance::{KEYWORD, flattened};

pub(super) fn report(path: &Path) -> Result<Report, TrainerError> {
    let mut report = Report::new("picture", path);
    describe(&mut report, path)?;
    Ok(report)
}

/// Size of the picture at `path` and the parameters that it was drawn with, if it is one of ours.
pub(super) fn describe(report: &mut Report, path: &Path) -> Result<(), TrainerError> {
    let ([width, height], texts) = png_file::read_texts(path)?;
    report.line(format_args!("{}: {width} x {height} pixels", path.display()));
    report.field("width", width);
    report.field("height", height);
    let parameters = texts.get(KEYWORD).and_then(|text| serde_json::from_str::<Value>(text).ok());
    match &parameters {
        Some(parameters) => {
            report.line("drawn with");
            for (key, value) in flattened(parameters) {
                report.line(format_args!("  {key:<28}{value}"));
            }
        }
        None => report.line("It does not say how it was drawn: it is not a sample of this program."),
    }
    report.field("parameters", parameters);
    let others: Vec<_> = texts.iter().filter(|(keyword, _)| keyword.as_str() != KEYWORD).collect();
    others.iter().for_each(|(keyword, text)| report.line(format_args!("{keyword}: {text}")));
    Ok(())
}
