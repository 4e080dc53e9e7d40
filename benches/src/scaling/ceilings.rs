//! What the device can do at best, measured at the start of a sweep.

use std::time::Instant;

use dim_kernels::gpu::Gpu;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use super::SweepError;
use super::measure::wait;

/// What bounds the time of a network from below.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Multiply-accumulates a second of a matrix product of the networks' shapes, in the sweep's precision.
    pub macs_per_s: f64,
    /// Bytes a second of a large copy, read and written.
    pub copy_bytes_per_s: f64,
    /// Results of the exponential unit a second; `None` where it is not known (on a CPU).
    pub exponentials_per_s: Option<f64>,
}

impl Ceilings {
    /// Measures the device for about two seconds.
    ///
    /// # Errors
    /// No memory, or an error of libtorch.
    pub fn measure(device: Device, kind: Kind) -> Result<Self, SweepError> {
        let large = device.is_cuda();
        // DiM-H's wide projections, as 64 images of 256 px see them; on a CPU a product that takes a fraction of a second.
        let [rows, inputs, outputs] = if large { [23_424, 1536, 6144] } else { [2048, 384, 1536] };
        let x = Tensor::f_randn([rows, inputs], (Kind::Float, device))?.to_kind(kind);
        let weight = Tensor::f_randn([outputs, inputs], (Kind::Float, device))?.to_kind(kind);
        let mut seconds = fastest(device, || x.f_linear(&weight, None::<&Tensor>).map(drop))?;
        if !large {
            // libtorch has two libraries for the same product on a CPU, and the networks take the faster one.
            let (image, filters) =
                (x.f_view([1, rows, 1, inputs])?.f_permute([0, 3, 1, 2])?, weight.f_view([outputs, inputs, 1, 1])?);
            let convolve = || image.f_conv2d(&filters, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1).map(drop);
            seconds = seconds.min(fastest(device, convolve)?);
        }
        #[allow(clippy::cast_precision_loss)] // sizes of matrices
        let macs_per_s = (rows * inputs * outputs) as f64 / seconds;

        let elements: i64 = if large { 256 << 20 } else { 32 << 20 };
        let from = Tensor::f_zeros([elements], (Kind::Float, device))?;
        let mut to = from.zeros_like();
        let seconds = fastest(device, || to.f_copy_(&from))?;
        #[allow(clippy::cast_precision_loss)]
        let copy_bytes_per_s = (2 * 4 * elements) as f64 / seconds;
        Ok(Self { macs_per_s, copy_bytes_per_s, exponentials_per_s: exponentials(device) })
    }
}

/// Sixteen a clock in every multiprocessor, at the highest clock that the driver names.
fn exponentials(device: Device) -> Option<f64> {
    let Device::Cuda(ordinal) = device else { return None };
    let gpu = Gpu::open(ordinal).ok()?;
    Some(16.0 * f64::from(gpu.multiprocessors().ok()?) * gpu.clock_hz().ok()?)
}

/// Seconds of the fastest of many calls.
fn fastest(device: Device, mut call: impl FnMut() -> Result<(), TchError>) -> Result<f64, SweepError> {
    call()?;
    wait(device);
    let start = Instant::now();
    let mut fastest = f64::INFINITY;
    while start.elapsed().as_secs_f64() < 0.7 {
        let call_start = Instant::now();
        call()?;
        wait(device);
        fastest = fastest.min(call_start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
