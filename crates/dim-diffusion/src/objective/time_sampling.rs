//! Which times training draws.

use serde::{Deserialize, Serialize};

use crate::{DiffusionError, noise::NoiseStream};

/// The distribution of training times between 0 (clean) and 1 (noise).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum TimeSampling {
    /// All times alike.
    #[default]
    Uniform,
    /// The logistic function of a normal number: times in the middle, where a rectified flow has most to learn, more often than both
    /// ends. Source: Esser et al. (Stable Diffusion 3), arXiv 2403.03206, section 3.1.
    LogitNormal {
        /// Mean of the normal number; above 0 favours noisy times.
        #[serde(default)]
        mean: f64,
        /// Its standard deviation.
        #[serde(default = "one")]
        std: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl TimeSampling {
    /// Checks the options.
    ///
    /// # Errors
    /// If the mean is not finite or the deviation not positive.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        match self {
            Self::LogitNormal { mean, .. } if !mean.is_finite() => {
                Err(DiffusionError::option("mean", "a finite number", mean))
            }
            Self::LogitNormal { std, .. } if !(*std > 0.0 && std.is_finite()) => {
                Err(DiffusionError::option("std", "a positive number", std))
            }
            _ => Ok(()),
        }
    }

    /// The number in `[0, 1)` that image `index` draws from `stream`.
    pub fn draw(&self, stream: NoiseStream, index: u64) -> f64 {
        match self {
            Self::Uniform => stream.uniform(index),
            Self::LogitNormal { mean, std } => {
                let logit = mean + std * stream.standard_normal(index);
                // Far out, f64 rounds to 1, which is not in the interval.
                (1.0 / (1.0 + (-logit).exp())).min(1.0 - f64::EPSILON)
            }
        }
    }
}
