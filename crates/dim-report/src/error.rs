//! What can go wrong in this crate.

use std::{io, path::PathBuf};

/// An error of reading, writing or comparing runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is no run.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ReportError>,
    },
    /// A line is not what it should be.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There is not even a description of the run.
    #[error("there is no line in it; the first must describe the run (`\"type\":\"run\"`)")]
    Empty,
    /// A measurement cannot be recorded.
    #[error("{what} must be {expected}, but is {actual}")]
    Measurement {
        /// The field, or what went into it.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        actual: String,
    },
    /// Two runs whose times say nothing about each other.
    #[error("the old run is of {old}, the new one of {new}: their times do not compare unless that is forced")]
    DifferentMachines {
        /// Device and precision of the old run.
        old: String,
        /// Device and precision of the new run.
        new: String,
    },
    /// Two runs without a common measurement.
    #[error("the two runs have no measured point in common")]
    NothingInCommon,
}
