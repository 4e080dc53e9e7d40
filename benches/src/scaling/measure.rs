//! Timing one point.

use std::time::Instant;

use dim_report::record::Measurement;
use tch::{Cuda, Device};

use super::{SweepError, memory};

/// How long a point is timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Seconds, about.
    pub seconds: f64,
    /// Timings that are made in any case.
    pub least_samples: usize,
    /// Most timings.
    pub max_samples: usize,
}

/// Waits until the device has done all that it was given.
pub fn wait(device: Device) {
    if let Device::Cuda(ordinal) = device {
        Cuda::synchronize(i64::try_from(ordinal).unwrap_or(0));
    }
}

/// Times `run`, from the first call of the host to the end of the device's work; the runs before it, which fill caches and let
/// libraries choose, are not counted.
///
/// # Errors
/// No memory, mostly.
pub fn measure(
    run: &mut dyn FnMut() -> Result<(), SweepError>,
    batch: u32,
    device: Device,
    effort: Effort,
) -> Result<Measurement, SweepError> {
    let counted = memory::reset_peak(device);
    let start = Instant::now();
    let mut warm_up = 0;
    // Twice at least: the first run makes what the second finds. A device also needs a moment to raise its clock.
    while warm_up < 2 || (device.is_cuda() && start.elapsed().as_secs_f64() < 0.1 * effort.seconds) {
        run()?;
        wait(device);
        warm_up += 1;
        // Where one run takes longer than all of them should, it was warm enough.
        if start.elapsed().as_secs_f64() > effort.seconds {
            break;
        }
    }
    let mut samples_ms = Vec::new();
    let start = Instant::now();
    while samples_ms.len() < effort.least_samples
        || (samples_ms.len() < effort.max_samples && start.elapsed().as_secs_f64() < effort.seconds)
    {
        let sample = Instant::now();
        run()?;
        wait(device);
        samples_ms.push(1e3 * sample.elapsed().as_secs_f64());
    }
    let peak = if counted { memory::peak_bytes(device) } else { None };
    Ok(Measurement::from_samples(samples_ms, batch, peak)?)
}
