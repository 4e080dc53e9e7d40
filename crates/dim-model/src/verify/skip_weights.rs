//! The weights of the long skips.

use tch::Tensor;

use super::{File, Report, difference};
use crate::{ModelError, SkipTuning};

/// Largest absolute error of a weight.
const TOLERANCE: f64 = 1e-5;

/// Checks the weights of the long skips that a schedule file lists (`skiptune.*`).
///
/// # Errors
/// A file without the layers that the weights belong to.
pub fn skip_weights(file: &File) -> Result<Report, ModelError> {
    let mut report = Report::default();
    for (depth, layers) in file.starting_with("skiptune.layers.") {
        let Ok(blocks) = depth.parse::<usize>() else { continue };
        let first = blocks - (blocks - 1) / 2;
        let decoder: Vec<i64> = (first..blocks).filter_map(|block| i64::try_from(block).ok()).collect();
        report.add(format!("skiptune.layers.{depth}"), difference(&Tensor::from_slice(&decoder), layers), 0.0);
        let meant = SkipTuning { top: 0.82, bottom: 1.0 };
        for (key, tuning) in [
            (format!("skiptune.weights_bottom1_top0.82.{depth}"), meant),
            (format!("skiptune.weights_effective_official.{depth}"), SkipTuning::as_published(0.82, 1.0)),
        ] {
            let weights: Vec<f64> = (first..blocks).map(|block| tuning.weight(block, first, blocks)).collect();
            report.add(&*key, difference(&Tensor::from_slice(&weights), file.tensor(&key)?), TOLERANCE);
        }
    }
    Ok(report)
}
