//! How much each sample's error counts.

use serde::{Deserialize, Serialize};

use crate::{DiffusionError, Prediction};

/// The weight of a sample's squared error, by its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum LossWeight {
    /// All errors of the network's output count the same.
    #[default]
    Uniform,
    /// Errors count by what they do to the clean image, times the signal-to-noise ratio, of which at most `gamma` counts. Source: Hang
    /// et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", arXiv 2303.09556.
    MinSnr {
        /// The ratio above which more signal gains no weight; 5 in the paper.
        #[serde(default = "gamma")]
        gamma: f64,
    },
}

fn gamma() -> f64 {
    5.0
}

impl LossWeight {
    /// Checks the options.
    ///
    /// # Errors
    /// If `gamma` is not a positive number.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        match self {
            Self::MinSnr { gamma } if !(*gamma > 0.0 && gamma.is_finite()) => {
                Err(DiffusionError::option("gamma", "a positive number", gamma))
            }
            _ => Ok(()),
        }
    }

    /// The weight of a sample in which the image has the share `alpha`, above 0, and the noise `sigma`.
    ///
    /// The paper weights the error of `x_0` by `min(SNR, gamma)`. An error of another kind of output is one of `x_0` times
    /// [`Prediction::x_0_per_output`], so for variance-preserving schedules the weight is `min(SNR, gamma)` divided by `SNR` for
    /// epsilon and by `SNR + 1` for v, as in the paper.
    pub fn at(&self, prediction: Prediction, alpha: f64, sigma: f64) -> f64 {
        match self {
            Self::Uniform => 1.0,
            Self::MinSnr { gamma } => {
                let snr = (alpha / sigma).powi(2);
                snr.min(*gamma) * prediction.x_0_per_output(alpha, sigma).powi(2)
            }
        }
    }
}
