//! Writes a run, a line at a time, so that whatever stops it loses at most the point it was at.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Header, Point, RecordRef, Run};
use crate::ReportError;

/// The open file of a run.
#[derive(Debug)]
pub struct RunWriter {
    path: PathBuf,
    file: File,
}

impl RunWriter {
    /// Starts a file; one that stood there before is lost.
    ///
    /// # Errors
    /// [`ReportError::Write`] naming the file.
    pub fn create(path: &Path, header: &Header) -> Result<Self, ReportError> {
        let file = File::create(path).map_err(|source| write_error(path, source))?;
        let mut writer = Self { path: path.to_owned(), file };
        writer.append(&RecordRef::Run(header))?;
        Ok(writer)
    }

    /// Goes on with a file, and returns what it holds: those points need not be measured again.
    ///
    /// A last line that a killed run left half written is cut.
    ///
    /// # Errors
    /// Those of [`Run::read`], or [`ReportError::Write`] naming the file.
    pub fn resume(path: &Path) -> Result<(Self, Run), ReportError> {
        let run = Run::read(path)?;
        let bytes = fs::read(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
        let ended = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let file = OpenOptions::new().append(true).open(path).map_err(|source| write_error(path, source))?;
        let mut writer = Self { path: path.to_owned(), file };
        let last = String::from_utf8_lossy(&bytes[ended..]);
        if serde_json::from_str::<serde_json::Value>(&last).is_ok() {
            // Only the end of the line is lacking.
            writer.write(b"\n")?;
        } else {
            writer.file.set_len(ended as u64).map_err(|source| write_error(path, source))?;
        }
        Ok((writer, run))
    }

    /// Appends a point.
    ///
    /// # Errors
    /// [`ReportError::Write`] naming the file.
    pub fn point(&mut self, point: &Point) -> Result<(), ReportError> {
        self.append(&RecordRef::Point(point))
    }

    /// Describes the run again, where one goes on by other code.
    ///
    /// # Errors
    /// [`ReportError::Write`] naming the file.
    pub fn header(&mut self, header: &Header) -> Result<(), ReportError> {
        self.append(&RecordRef::Run(header))
    }

    fn append(&mut self, record: &RecordRef<'_>) -> Result<(), ReportError> {
        self.write(record.line().as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ReportError> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.flush());
        written.map_err(|source| write_error(&self.path, source))
    }
}

fn write_error(path: &Path, source: io::Error) -> ReportError {
    ReportError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture;

    #[test]
    fn run_survives_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let run = fixture::run();
        let mut writer = RunWriter::create(&path, &run.header).unwrap();
        run.points.iter().for_each(|point| writer.point(point).unwrap());
        assert!(Run::read(&path).unwrap() == run);
        assert!(fs::read_to_string(&path).unwrap() == run.to_json_lines());
    }

    #[test]
    fn resumed_file_reads_as_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let run = fixture::run();
        let mut lines = run.to_json_lines();
        for (cut, known) in [(1, run.points.len()), (30, run.points.len() - 1)] {
            lines.truncate(run.to_json_lines().len() - cut);
            fs::write(&path, &lines).unwrap();
            let (mut writer, before) = RunWriter::resume(&path).unwrap();
            assert_eq!(before.points.len(), known, "{cut} bytes cut");
            writer.point(run.points.last().unwrap()).unwrap();
            assert!(Run::read(&path).unwrap() == run, "{cut} bytes cut");
        }
    }

    #[test]
    fn missing_folder_is_named() {
        let error = RunWriter::create(Path::new("/no/such/run.jsonl"), &fixture::run().header).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /no/such/run.jsonl: "), "{error}");
    }
}
