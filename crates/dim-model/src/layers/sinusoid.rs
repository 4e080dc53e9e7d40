//! Sinusoids of the time. Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.

use dim_torch::TorchError;
use tch::{Device, Kind, Tensor};

/// −ln 10⁴, rounded to f32 where it is used.
const LOG_LOWEST_FREQUENCY: f64 = -9.210_340_371_976_184;

/// Cosines, then sines, of the time at `width / 2` frequencies from 1 to almost 10⁻⁴.
///
/// The frequencies are computed once, on the CPU: another device's exponential differs in the last bit of some, which at t near
/// 1000 changes a cosine by 6e-5, and a deep network's output by more than all roundings together.
pub(crate) struct Sinusoid {
    /// `[width / 2]`, f32.
    frequencies: Tensor,
}

impl Sinusoid {
    /// The sinusoid of this many values, on `device`.
    ///
    /// The order of the f32 operations, here and in [`Sinusoid::of`], is that of all published implementations: at t near 1000
    /// another order changes a cosine by 7e-5.
    pub(crate) fn new(width: usize, device: Device) -> Result<Self, TorchError> {
        #[allow(clippy::cast_possible_wrap)]
        let half = (width / 2) as i64;
        let index = Tensor::f_arange(half, (Kind::Float, Device::Cpu))?;
        #[allow(clippy::cast_precision_loss)]
        let frequencies = (index * LOG_LOWEST_FREQUENCY).f_div_scalar(half as f64)?.f_exp()?;
        Ok(Self { frequencies: frequencies.to_device(device) })
    }

    /// Of `t`, `[batch]`: `[batch, width]`, f32.
    pub(crate) fn of(&self, t: &Tensor) -> Result<Tensor, TorchError> {
        let angles = t.to_kind(Kind::Float).f_unsqueeze(1)?.f_mul(&self.frequencies.f_unsqueeze(0)?)?;
        Ok(Tensor::f_cat(&[angles.f_cos()?, angles.f_sin()?], -1)?)
    }
}
