//! `sessions.jsonl`: when a run began, went on and ended, by what and on what; one JSON object a line.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::TrainerError;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum SessionLine {
    Begun(Box<Begun>),
    Ended(Ended),
}

/// Training began, or went on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// Seconds since 1970, UTC.
    pub begun_s: u64,
    /// Images seen before.
    pub images_seen: u64,
    /// Name and version of the program.
    pub program: String,
    /// Of the checkout that the program was built from, where it is still there: its commit, as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The configuration that was named, and the settings beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    #[serde(default)]
    pub set: Vec<String>,
    /// Where the leading process computes, such as `cuda:0`.
    pub device: String,
    /// The card's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    pub processor: String,
    /// Of each process.
    pub threads: usize,
    pub processes: usize,
    /// `f32` or `bf16`.
    pub precision: String,
    /// Images that the data hold.
    pub images_found: u64,
    pub classes: usize,
}

/// Training ended by itself: a process that was killed leaves no such line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Seconds since 1970, UTC.
    pub ended_s: u64,
    /// Images seen by then.
    pub images_seen: u64,
    /// Why.
    pub reason: EndReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndReason {
    /// All images were seen.
    Finished,
    /// The time limit.
    TimeIsUp,
    /// Somebody asked.
    Interrupted,
}

/// Now.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Adds a line.
///
/// # Errors
/// [`TrainerError::Write`] naming the file.
pub(crate) fn append(path: &Path, line: &SessionLine) -> Result<(), TrainerError> {
    let failed = |source| TrainerError::write(path, source);
    // What a killed process left half written stays a line of its own, which readers pass over.
    let torn = fs::read(path).is_ok_and(|text| text.last().is_some_and(|last| *last != b'\n'));
    let text = format!("{}{}\n", if torn { "\n" } else { "" }, serde_json::json!(line));
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// The lines of a run; none if there is no such file, as of runs of older versions.
///
/// # Errors
/// [`TrainerError::Read`] naming the file.
pub(crate) fn read(path: &Path) -> Result<Vec<SessionLine>, TrainerError> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(TrainerError::read(path, source)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_come_back_and_a_torn_one_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        let ended = |images_seen| Ended { ended_s: 1_795_651_199, images_seen, reason: EndReason::TimeIsUp };
        append(&path, &SessionLine::Ended(ended(8))).unwrap();
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"begun_s\":17");
        fs::write(&path, text).unwrap();
        append(&path, &SessionLine::Ended(ended(16))).unwrap();
        assert_eq!(read(&path).unwrap(), [ended(8), ended(16)].map(SessionLine::Ended));
    }
}
