//! What is kept of a timing: one line of JSON.
//!
//! `cargo xtask bench-kernels --compare` reads the same lines.

use serde::{Deserialize, Serialize};

/// One timing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Folder of the op.
    pub op: String,
    /// `forward`, `backward` or `step`.
    pub direction: String,
    /// Sizes, such as `16x4494x3072n16`.
    pub shape: String,
    /// Of activations.
    pub dtype: String,
    /// Whether the op followed a token map; null for ops that take none.
    pub token_map: Option<bool>,
    /// `cold`: inputs came from memory; `warm`: the same buffers again and again, which the cache holds.
    pub cache: String,
    /// Sets of buffers that calls took in turn.
    pub buffer_sets: usize,
    /// Batches of calls that were timed.
    pub samples: usize,
    /// Calls of a batch.
    pub calls: u32,
    /// Microseconds of one call, the middle one of the samples.
    pub median_us: f64,
    /// Microseconds that a tenth of the samples stay below.
    pub p10_us: f64,
    /// Microseconds that nine tenths of the samples stay below.
    pub p90_us: f64,
    /// Bytes that must be moved.
    pub bytes: f64,
    /// Results of the exponential unit that are needed.
    pub exponentials: f64,
    /// Microseconds that the ceilings allow at best.
    pub floor_us: f64,
    /// Floor over median: 1 cannot be passed, except in a warm cache.
    pub floor_share: f64,
    /// Where and when.
    #[serde(flatten)]
    pub machine: Machine,
}

/// Where and when a run was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the card.
    pub card: String,
    /// Version of its driver.
    pub driver: String,
    /// Measured copy speed, bytes read and written a second.
    pub copy_bytes_per_s: f64,
    /// Ceiling of the exponential unit.
    pub exponentials_per_s: f64,
    /// What was compiled, as far as is known.
    pub commit: String,
    /// Day, `2026-11-22`, UTC.
    pub date: String,
}

/// Reads lines of JSON; empty lines are passed over.
///
/// # Errors
/// The number of the line that is no record, and why.
pub fn read_records(text: &str) -> Result<Vec<Record>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1)))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn record(op: &str, direction: &str, shape: &str, median_us: f64) -> Record {
        Record {
            op: op.into(),
            direction: direction.into(),
            shape: shape.into(),
            dtype: "bf16".into(),
            token_map: Some(true),
            cache: "cold".into(),
            buffer_sets: 1,
            samples: 20,
            calls: 4,
            median_us,
            p10_us: 0.99 * median_us,
            p90_us: 1.01 * median_us,
            bytes: 1e9,
            exponentials: 0.0,
            floor_us: 250.0,
            floor_share: 250.0 / median_us,
            machine: Machine {
                card: "NVIDIA H200".into(),
                driver: "580.1".into(),
                copy_bytes_per_s: 4e12,
                exponentials_per_s: 4e12,
                commit: "abc".into(),
                date: "2026-11-24".into(),
            },
        }
    }

    #[test]
    fn records_survive_writing_and_reading() {
        let records = [record("selective_scan", "forward", "1x366x3072n16", 15.5), record("a", "b", "c", 1.0)];
        let text: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n\n").collect();
        assert_eq!(read_records(&text).unwrap(), records);
        let error = read_records(&(text + "{\"op\": 3}")).unwrap_err();
        assert!(error.starts_with("line 5: "), "{error}");
    }
}
