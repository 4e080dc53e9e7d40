//! The times that a sampler visits.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{DiffusionError, schedule::NoiseSchedule};

/// `steps + 1` times, evenly spaced from `t_start` down to `t_end`, on the CPU.
pub fn uniform_times(t_start: f64, t_end: f64, steps: usize, kind: Kind) -> Tensor {
    Tensor::linspace(t_start, t_end, steps as i64 + 1, (kind, Device::Cpu))
}

/// Where the times of a sampler lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Evenly in the schedule's time.
    #[default]
    Time,
    /// Evenly in the logarithm of the signal-to-noise ratio.
    LogSnr,
    /// Evenly in the noise level to the power of `1 / rho` (Karras et al., arXiv 2206.00364, equation 5).
    Edm {
        /// How much denser the times are where there is little noise; 7 in the paper.
        rho: f64,
    },
}

impl Spacing {
    /// `steps + 1` times from the first to the second of `ends`, on the CPU.
    pub(super) fn times(self, schedule: &dyn NoiseSchedule, ends: [f64; 2], steps: usize, kind: Kind) -> Tensor {
        let [t_start, t_end] = ends;
        if self == Self::Time {
            return uniform_times(t_start, t_end, steps, kind);
        }
        // The noise level is exp of minus half the log signal-to-noise ratio.
        let level = |t: f64| -schedule.half_log_snr(&Tensor::from(t).to_kind(Kind::Double)).double_value(&[]);
        let share = Tensor::linspace(0.0, 1.0, steps as i64 + 1, (Kind::Double, Device::Cpu));
        let log_levels = match self {
            Self::Edm { rho } => {
                let [first, last] = ends.map(|t| (level(t) / rho).exp());
                (share * (last - first) + first).log() * rho
            }
            _ => share * (level(t_end) - level(t_start)) + level(t_start),
        };
        let times = schedule.time_at_half_log_snr(&-log_levels);
        // Exactly the ends, which the way there and back would round.
        let inner = times.slice(0, 1, steps as i64, 1);
        Tensor::cat(&[Tensor::from_slice(&[t_start]), inner, Tensor::from_slice(&[t_end])], 0).to_kind(kind)
    }
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
