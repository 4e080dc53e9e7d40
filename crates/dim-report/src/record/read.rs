//! Reads a run.

use std::{fs, path::Path};

use super::{Header, Point, Record, Run, VERSION};
use crate::ReportError;

impl Run {
    /// Reads a file of lines of JSON.
    ///
    /// # Errors
    /// [`ReportError::Read`], or [`ReportError::File`] around what [`Run::parse`] says.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        // A torn line may end inside a character.
        let bytes = fs::read(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
        Self::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|error| ReportError::File { path: path.to_owned(), source: Box::new(error) })
    }

    /// Parses the lines of a run. Empty lines are passed over.
    ///
    /// A later point takes the place of an earlier one of the same model, mode, image size and role. A last line without an end
    /// that is no record is left out, with a warning: a run was killed while it wrote it. A run that went on may describe
    /// itself again.
    ///
    /// # Errors
    /// [`ReportError::Line`] naming the line, or [`ReportError::Empty`].
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        let mut run: Option<Self> = None;
        let mut torn = None;
        for (index, whole) in text.split_inclusive('\n').enumerate() {
            let at = |problem| ReportError::Line { line: index + 1, problem };
            let line = whole.trim();
            if line.is_empty() {
                continue;
            }
            let record = match serde_json::from_str(line) {
                Ok(record) => record,
                Err(_) if !whole.ends_with('\n') && run.is_some() => {
                    torn = Some(index + 1);
                    continue;
                }
                Err(error) => return Err(at(explain(&error))),
            };
            match (record, &mut run) {
                (Record::Run(header), None) => run = Some(Self::start(header).map_err(at)?),
                (Record::Run(header), Some(run)) => run.go_on(header, index + 1).map_err(at)?,
                (Record::Point(_), None) => {
                    return Err(at("the first line must describe the run (`\"type\":\"run\"`)".to_owned()));
                }
                (Record::Point(point), Some(run)) => run.insert(point),
            }
        }
        let mut run = run.ok_or(ReportError::Empty)?;
        if let Some(line) = torn {
            run.warnings.push(format!("line {line} is torn and was left out: the run was stopped while writing it"));
        }
        Ok(run)
    }

    fn start(header: Header) -> Result<Self, String> {
        check_version(&header)?;
        Ok(Self { header, points: Vec::new(), warnings: Vec::new() })
    }

    /// The run goes on: on the same machine, maybe by other code.
    fn go_on(&mut self, header: Header, line: usize) -> Result<(), String> {
        check_version(&header)?;
        let place = |header: &Header| format!("{} in {}", header.device, header.precision);
        let (before, after) = (place(&self.header), place(&header));
        if before != after {
            return Err(format!("the run began on {before} and cannot go on on {after}"));
        }
        if self.header.commit != header.commit {
            let (before, after) = (&self.header.commit, &header.commit);
            self.warnings.push(format!("from line {line} on the run is of commit {after}, before that of {before}"));
        }
        self.header = header;
        Ok(())
    }

    fn insert(&mut self, point: Point) {
        match self.points.iter_mut().find(|known| known.same_place(&point)) {
            Some(known) => *known = point,
            None => self.points.push(point),
        }
    }
}

fn check_version(header: &Header) -> Result<(), String> {
    let version = header.version;
    if version == VERSION { Ok(()) } else { Err(format!("version {version} of the format; this reads {VERSION}")) }
}

fn explain(error: &serde_json::Error) -> String {
    // The parser counts lines in what it was given, which is one line.
    let text = error.to_string();
    let problem = text.split(" at line 1 column").next().unwrap_or(&text);
    if error.is_data() { problem.to_owned() } else { format!("not JSON: {problem} (column {})", error.column()) }
}

#[cfg(test)]
mod tests;
