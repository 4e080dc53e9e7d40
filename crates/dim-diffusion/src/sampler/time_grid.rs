//! The times that a sampler visits.

use tch::{Device, Kind, Tensor};

use crate::DiffusionError;

/// `steps + 1` times, evenly spaced from `t_start` down to `t_end`, on the CPU.
pub fn uniform_times(t_start: f64, t_end: f64, steps: usize, kind: Kind) -> Tensor {
    Tensor::linspace(t_start, t_end, steps as i64 + 1, (kind, Device::Cpu))
}

/// Checks the options that every sampler has.
pub(super) fn validate(steps: usize, t_start: f64, t_end: f64) -> Result<(), DiffusionError> {
    if steps == 0 {
        return Err(DiffusionError::option("steps", "at least 1", steps));
    }
    if !(t_start > 0.0 && t_start <= 1.0) {
        return Err(DiffusionError::option("t_start", "above 0 and at most 1", t_start));
    }
    if !(t_end > 0.0 && t_end < t_start) {
        return Err(DiffusionError::option("t_end", format!("above 0 and below t_start = {t_start}"), t_end));
    }
    Ok(())
}
