//! `log.jsonl`: one JSON object a line, flushed at once, so that plots and scripts can follow a run.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainerError;
use crate::evaluation::Scores;
use crate::files;

pub use dim_report::training::LogLine as Record;

/// How good the samples of the moving average were: a line of its own in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Optimiser steps taken.
    pub step: u64,
    /// Images seen in training so far.
    pub images_seen: u64,
    /// What was measured.
    pub evaluation: Measurement,
}

/// The numbers of one set of samples, with what they are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The network whose features were compared.
    pub features: String,
    /// Weight of classifier-free guidance.
    pub cfg_scale: f64,
    /// Whether there was guidance at all.
    pub guided: bool,
    /// Number of samples.
    pub samples: u64,
    /// Seed of their noise.
    pub seed: u64,
    /// The metrics.
    pub scores: Scores,
}

/// A line of the log.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Record(Record),
    Evaluated(Evaluated),
}

/// The open log of a run.
pub struct JsonLog {
    path: PathBuf,
    file: File,
}

impl JsonLog {
    /// Starts an empty log.
    ///
    /// # Errors
    /// [`TrainerError::Write`] naming the file.
    pub fn create(path: &Path) -> Result<Self, TrainerError> {
        let file = File::create(path).map_err(|source| TrainerError::write(path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Goes on with a log after its last line up to `images_seen`, and returns that line.
    ///
    /// Later lines, and a last line that a killed process left half written, are cut: the log then reads as one run.
    ///
    /// # Errors
    /// [`TrainerError::Read`] or [`TrainerError::Write`] naming the file. A missing file is started anew.
    pub fn resume(path: &Path, images_seen: u64) -> Result<(Self, Option<Record>), TrainerError> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(TrainerError::read(path, source)),
        };
        let mut kept = String::new();
        let mut last = None;
        for line in text.split_inclusive('\n') {
            match serde_json::from_str(line) {
                Ok(Line::Record(record)) if line.ends_with('\n') && record.images_seen <= images_seen => {
                    kept.push_str(line);
                    last = Some(record);
                }
                Ok(Line::Evaluated(found)) if line.ends_with('\n') && found.images_seen <= images_seen => {
                    kept.push_str(line);
                }
                _ => break,
            }
        }
        files::write_bytes_atomically(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(|source| TrainerError::write(path, source))?;
        Ok((Self { path: path.to_owned(), file }, last))
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`TrainerError::Write`] naming the file.
    pub fn write(&mut self, record: &Record) -> Result<(), TrainerError> {
        self.append(&serde_json::json!(record))
    }

    /// Appends a line of an evaluation.
    ///
    /// # Errors
    /// [`TrainerError::Write`] naming the file.
    pub fn write_evaluation(&mut self, found: &Evaluated) -> Result<(), TrainerError> {
        self.append(&serde_json::json!(found))
    }

    /// The evaluations in a log, in their order; none if there is no log.
    ///
    /// # Errors
    /// [`TrainerError::Read`] naming the file.
    pub fn evaluations(path: &Path) -> Result<Vec<Evaluated>, TrainerError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(TrainerError::read(path, source)),
        };
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// All of a log, in its order, and whether its last line is whole: a process that was killed leaves half a line, one that is writing does
    /// so for a moment.
    ///
    /// # Errors
    /// [`TrainerError::Read`] naming the file; [`TrainerError::NotALog`] naming the line.
    pub fn read(path: &Path) -> Result<(Vec<Record>, Vec<Evaluated>, bool), TrainerError> {
        let bytes = fs::read(path).map_err(|source| TrainerError::read(path, source))?;
        let text = String::from_utf8_lossy(&bytes);
        let (mut records, mut evaluations) = (Vec::new(), Vec::new());
        for (index, line) in text.split_inclusive('\n').enumerate() {
            match serde_json::from_str(line) {
                Ok(Line::Record(record)) => records.push(record),
                Ok(Line::Evaluated(found)) => evaluations.push(found),
                Err(_) if !line.ends_with('\n') => return Ok((records, evaluations, false)),
                Err(_) if line.trim().is_empty() => {}
                Err(_) => return Err(TrainerError::NotALog { path: path.to_owned(), line: index + 1 }),
            }
        }
        Ok((records, evaluations, true))
    }

    fn append(&mut self, line: &serde_json::Value) -> Result<(), TrainerError> {
        let line = format!("{line}\n");
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.flush())
            .map_err(|source| TrainerError::write(&self.path, source))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(images_seen: u64) -> Record {
        Record {
            step: images_seen / 8,
            images_seen,
            loss: 0.5,
            grad_norm: 1.25,
            lr: 1e-4,
            images_per_s: 30.5,
            elapsed_s: images_seen as f64,
            peak_memory_bytes: None,
        }
    }

    #[test]
    fn resumed_log_reads_as_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = JsonLog::create(&path).unwrap();
        let evaluated = |images_seen| Evaluated {
            step: images_seen / 8,
            images_seen,
            evaluation: Measurement {
                features: "inception".to_owned(),
                cfg_scale: 1.0,
                guided: false,
                samples: 10,
                seed: 0,
                scores: Scores { frechet_distance: Some(images_seen as f64), ..Scores::default() },
            },
        };
        for images_seen in [8, 16, 24, 32] {
            log.write(&record(images_seen)).unwrap();
            log.write_evaluation(&evaluated(images_seen)).unwrap();
        }
        log.file.write_all(b"{\"step\":5,\"imag").unwrap();

        let (mut log, last) = JsonLog::resume(&path, 20).unwrap();
        assert_eq!(last, Some(record(16)));
        log.write(&record(24)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Record> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(lines, [record(8), record(16), record(24)]);
        assert_eq!(JsonLog::evaluations(&path).unwrap(), [evaluated(8), evaluated(16)]);
        let (records, evaluations) = ([record(8), record(16), record(24)], [evaluated(8), evaluated(16)]);
        let read = || JsonLog::read(&path).map(|(one, other, whole)| (one == records && other == evaluations, whole));
        assert_eq!(read().unwrap(), (true, true));
        fs::write(&path, text.clone() + "{\"step\":5,\"imag").unwrap();
        assert_eq!(read().unwrap(), (true, false));
        fs::write(&path, format!("{text}no record\n{text}")).unwrap();
        assert!(read().unwrap_err().to_string().contains("log.jsonl: line 6 is no record"));
    }

    #[test]
    fn resuming_without_a_log_starts_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let (_, last) = JsonLog::resume(&path, 20).unwrap();
        assert_eq!(last, None);
        assert!(path.exists());
    }
}
