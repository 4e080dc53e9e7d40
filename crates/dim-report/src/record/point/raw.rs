//! A point as it stands in a line: flat, and nothing in it sure.

use serde::{Deserialize, Serialize};

use super::{Measurement, Mode, Outcome, Point, Role};

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Measured,
    OutOfMemory,
    Failed,
    Skipped,
}

/// Every field of a line. Those of a measurement are absent, or null, where there is none.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct RawPoint {
    model: String,
    family: String,
    parameters: u64,
    mode: Mode,
    image_px: u32,
    input: Vec<u64>,
    tokens: u64,
    batch: u32,
    role: Role,
    outcome: Kind,
    note: Option<String>,
    macs_per_image: Option<f64>,
    floor_ms: Option<f64>,
    samples_ms: Option<Vec<f64>>,
    median_ms: Option<f64>,
    p10_ms: Option<f64>,
    p90_ms: Option<f64>,
    images_per_s: Option<f64>,
    peak_memory_bytes: Option<u64>,
}

impl RawPoint {
    fn measurement(&self) -> Result<Measurement, String> {
        let above_0 = |name: &str, value: Option<f64>| {
            value.filter(|value| *value > 0.0).ok_or_else(|| format!("`{name}` of a measured point must be above 0"))
        };
        let samples_ms = self.samples_ms.clone().unwrap_or_default();
        if samples_ms.is_empty() || samples_ms.iter().any(|sample| *sample <= 0.0) {
            return Err("`samples_ms` of a measured point must hold times above 0".to_owned());
        }
        let measurement = Measurement {
            samples_ms,
            median_ms: above_0("median_ms", self.median_ms)?,
            p10_ms: above_0("p10_ms", self.p10_ms)?,
            p90_ms: above_0("p90_ms", self.p90_ms)?,
            images_per_s: above_0("images_per_s", self.images_per_s)?,
            peak_memory_bytes: self.peak_memory_bytes,
        };
        let Measurement { p10_ms, median_ms, p90_ms, .. } = measurement;
        if !(p10_ms <= median_ms && median_ms <= p90_ms) {
            return Err(format!(
                "`median_ms` ({median_ms}) is not between `p10_ms` ({p10_ms}) and `p90_ms` ({p90_ms})"
            ));
        }
        Ok(measurement)
    }
}

impl TryFrom<RawPoint> for Point {
    type Error = String;

    fn try_from(raw: RawPoint) -> Result<Self, String> {
        for (name, value) in
            [("image_px", u64::from(raw.image_px)), ("tokens", raw.tokens), ("batch", raw.batch.into())]
        {
            if value == 0 {
                return Err(format!("`{name}` must be at least 1"));
            }
        }
        for (name, value) in [("macs_per_image", raw.macs_per_image), ("floor_ms", raw.floor_ms)] {
            if value.is_some_and(|value| value <= 0.0) {
                return Err(format!("`{name}` must be above 0, or null"));
            }
        }
        let outcome = match raw.outcome {
            Kind::Measured => Outcome::Measured(raw.measurement()?),
            Kind::OutOfMemory => Outcome::OutOfMemory,
            Kind::Failed => Outcome::Failed,
            Kind::Skipped => Outcome::Skipped,
        };
        Ok(Self {
            model: raw.model,
            family: raw.family,
            parameters: raw.parameters,
            mode: raw.mode,
            image_px: raw.image_px,
            input: raw.input,
            tokens: raw.tokens,
            batch: raw.batch,
            role: raw.role,
            outcome,
            note: raw.note,
            macs_per_image: raw.macs_per_image,
            floor_ms: raw.floor_ms,
        })
    }
}

impl From<Point> for RawPoint {
    fn from(point: Point) -> Self {
        let (outcome, of) = match point.outcome {
            Outcome::Measured(measurement) => (Kind::Measured, Some(measurement)),
            Outcome::OutOfMemory => (Kind::OutOfMemory, None),
            Outcome::Failed => (Kind::Failed, None),
            Outcome::Skipped => (Kind::Skipped, None),
        };
        Self {
            model: point.model,
            family: point.family,
            parameters: point.parameters,
            mode: point.mode,
            image_px: point.image_px,
            input: point.input,
            tokens: point.tokens,
            batch: point.batch,
            role: point.role,
            outcome,
            note: point.note,
            macs_per_image: point.macs_per_image,
            floor_ms: point.floor_ms,
            median_ms: of.as_ref().map(|of| of.median_ms),
            p10_ms: of.as_ref().map(|of| of.p10_ms),
            p90_ms: of.as_ref().map(|of| of.p90_ms),
            images_per_s: of.as_ref().map(|of| of.images_per_s),
            peak_memory_bytes: of.as_ref().and_then(|of| of.peak_memory_bytes),
            samples_ms: of.map(|of| of.samples_ms),
        }
    }
}
