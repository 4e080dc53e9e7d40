//! Timing on the device, by CUDA events.

use dim_kernels::gpu::{DeviceTensor, Gpu};
use dim_kernels::{DType, KernelError};

/// Elements of the copy that the ceiling is measured with, and that the queue is kept busy with: twice 256 MiB.
const COPY_ELEMENTS: usize = 64 << 20;
/// Copies that keep the queue busy at most.
const MAX_COPIES: usize = 64;

/// Times work on a GPU without what the CPU takes to launch it.
///
/// Calls are queued behind a copy that is long enough for all of them to be queued before it ends; the device then runs them
/// back to back between two events. The copy also throws everything out of the caches.
pub struct Clock<'a> {
    gpu: &'a Gpu,
    from: DeviceTensor,
    to: DeviceTensor,
    copies: usize,
}

impl<'a> Clock<'a> {
    /// A clock on this device.
    ///
    /// # Errors
    /// Half a gigabyte of its memory is needed.
    pub fn new(gpu: &'a Gpu) -> Result<Self, KernelError> {
        let (from, to) = (gpu.zeros(DType::F32, &[COPY_ELEMENTS])?, gpu.zeros(DType::F32, &[COPY_ELEMENTS])?);
        Ok(Self { gpu, from, to, copies: 1 })
    }

    /// Bytes a second of a copy, read and written bytes counted: the median of 31.
    ///
    /// # Errors
    /// An error of the device.
    pub fn copy_bytes_per_s(&mut self) -> Result<f64, KernelError> {
        let mut seconds = Vec::new();
        for _ in 0..31 {
            self.gpu.copy(&self.from, &mut self.to)?;
            let start = self.gpu.mark()?;
            self.gpu.copy(&self.from, &mut self.to)?;
            seconds.push(start.seconds_until(&self.gpu.mark()?)?);
        }
        #[allow(clippy::cast_precision_loss)] // a size in memory
        let bytes = 2.0 * self.from.bytes() as f64;
        Ok(bytes / Spread::of(&seconds).median)
    }

    /// Seconds that the device takes for one call, of so many back to back.
    ///
    /// # Errors
    /// An error of the device or of a call.
    pub fn seconds_per_call(
        &mut self,
        calls: u32,
        mut call: impl FnMut() -> Result<(), KernelError>,
    ) -> Result<f64, KernelError> {
        loop {
            for _ in 0..self.copies {
                self.gpu.copy(&self.from, &mut self.to)?;
            }
            let start = self.gpu.mark()?;
            for _ in 0..calls {
                call()?;
            }
            let ran_dry = start.is_reached()?;
            let seconds = start.seconds_until(&self.gpu.mark()?)? / f64::from(calls);
            if !ran_dry || self.copies >= MAX_COPIES {
                return Ok(seconds);
            }
            self.copies *= 2;
        }
    }
}

/// Times of the same thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The value that a tenth stay below.
    pub p10: f64,
    /// The middle one.
    pub median: f64,
    /// The value that nine tenths stay below.
    pub p90: f64,
}

impl Spread {
    /// The spread of these values.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "no values have no median");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        Self { p10: sorted[last / 10], median: sorted[sorted.len() / 2], p90: sorted[last - last / 10] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_leaves_out_a_tenth_at_each_end() {
        let values: Vec<f64> = (0..101).rev().map(f64::from).collect();
        assert_eq!(Spread::of(&values), Spread { p10: 10.0, median: 50.0, p90: 90.0 });
        assert_eq!(Spread::of(&[3.0]), Spread { p10: 3.0, median: 3.0, p90: 3.0 });
    }
}
