//! A point: one model at one image size, in one mode, measured or not.

mod raw;

use serde::{Deserialize, Serialize};

use crate::{ReportError, analysis::statistics};

/// What the network was made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One forward pass.
    Forward,
    /// One step of guided sampling: both branches in one batch. An image counts once.
    SamplingStep,
    /// Forward and backward pass and the optimiser.
    TrainingStep,
}

impl Mode {
    /// The mode in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward pass",
            Self::SamplingStep => "guided sampling step",
            Self::TrainingStep => "training step",
        }
    }
}

/// What a point is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// How long one image takes: batch 1.
    Latency,
    /// How many images a second there are at most: the largest sensible batch.
    Throughput,
}

impl Role {
    /// The role in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
        }
    }
}

/// What became of a point.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was measured.
    Measured(Measurement),
    /// Not even a batch of one fitted, or not this batch; the note says which.
    OutOfMemory,
    /// The network failed for another reason; the note says which.
    Failed,
    /// It was not tried; the note says why.
    Skipped,
}

impl Outcome {
    /// The outcome in words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Measured(_) => "measured",
            Self::OutOfMemory => "out of memory",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Times of a whole batch, all in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Every repeat, in the order in which they ran; at least one.
    pub samples_ms: Vec<f64>,
    /// Their median.
    pub median_ms: f64,
    /// A tenth of them was faster.
    pub p10_ms: f64,
    /// A tenth of them was slower.
    pub p90_ms: f64,
    /// Images a second, at the median.
    pub images_per_s: f64,
    /// The most memory that was in use at once, where the device tells.
    pub peak_memory_bytes: Option<u64>,
}

impl Measurement {
    /// The measurement that these repeats of a whole batch make.
    ///
    /// # Errors
    /// [`ReportError::Measurement`] without a repeat, or with one that is not a finite time above 0, or without a batch.
    pub fn from_samples(samples_ms: Vec<f64>, batch: u32, peak_memory_bytes: Option<u64>) -> Result<Self, ReportError> {
        let what = "samples_ms";
        if batch == 0 {
            return Err(ReportError::Measurement { what: "batch", expected: "at least 1", actual: "0".to_owned() });
        }
        if samples_ms.is_empty() {
            return Err(ReportError::Measurement { what, expected: "at least one time", actual: "empty".to_owned() });
        }
        if let Some(wrong) = samples_ms.iter().find(|sample| !(sample.is_finite() && **sample > 0.0)) {
            let actual = wrong.to_string();
            return Err(ReportError::Measurement { what, expected: "finite times above 0", actual });
        }
        let sorted = statistics::sorted(&samples_ms);
        let [p10_ms, median_ms, p90_ms] = [0.1, 0.5, 0.9].map(|share| statistics::quantile(&sorted, share));
        let images_per_s = 1e3 * f64::from(batch) / median_ms;
        Ok(Self { samples_ms, median_ms, p10_ms, p90_ms, images_per_s, peak_memory_bytes })
    }
}

/// One model at one image size, in one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "raw::RawPoint", into = "raw::RawPoint")]
pub struct Point {
    /// The model's name, such as `DiM-H/2`.
    pub model: String,
    /// Its family: `dim`, `dit`, `uvit`, `unet`.
    pub family: String,
    /// Its number of parameters.
    pub parameters: u64,
    /// What it did.
    pub mode: Mode,
    /// Side of the images, in pixels.
    pub image_px: u32,
    /// Shape of one input, without the batch.
    pub input: Vec<u64>,
    /// Length of the sequence that the network works on.
    pub tokens: u64,
    /// Images in a batch.
    pub batch: u32,
    /// What the point is to show.
    pub role: Role,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where it was not measured; or a remark.
    pub note: Option<String>,
    /// Multiply-adds that the mode needs for one image, where they are known.
    pub macs_per_image: Option<f64>,
    /// What the hardware's limits allow at best for the whole batch, in milliseconds, where that is known.
    pub floor_ms: Option<f64>,
}

impl Point {
    /// The measurement, if there is one.
    pub fn measurement(&self) -> Option<&Measurement> {
        match &self.outcome {
            Outcome::Measured(measurement) => Some(measurement),
            _ => None,
        }
    }

    /// Median, 10th and 90th percentile of the time of one image, in milliseconds.
    pub fn ms_per_image(&self) -> Option<[f64; 3]> {
        let batch = f64::from(self.batch);
        self.measurement().map(|of| [of.median_ms, of.p10_ms, of.p90_ms].map(|ms| ms / batch))
    }

    /// Useful work: 10¹² operations a second, a multiply-add being two.
    pub fn teraflops(&self) -> Option<f64> {
        Some(2.0 * self.macs_per_image? * self.measurement()?.images_per_s / 1e12)
    }

    /// How much of the time the hardware's limits explain: 1 is as fast as it can be.
    pub fn floor_share(&self) -> Option<f64> {
        Some(self.floor_ms? / self.measurement()?.median_ms)
    }

    /// Whether the two are about the same: the later then takes the place of the earlier.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        let place = |point: &Self| (point.mode, point.image_px, point.role);
        self.model == other.model && place(self) == place(other)
    }
}
