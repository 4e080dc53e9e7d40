//! Networks in closed form.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use crate::{Denoiser, DiffusionError, schedule::NoiseSchedule};

/// The exact denoiser of Gaussian data: pixels are independent, `N(mean of their channel, deviation²)`.
///
/// At time `t` such data is `N(alpha mean, alpha² deviation² + sigma²)`, so the expected noise in `x_t` is
/// `sigma (x_t - alpha mean) / (alpha² deviation² + sigma²)`.
pub struct GaussianDenoiser<'a> {
    schedule: &'a dyn NoiseSchedule,
    time_scale: f64,
    mean: Tensor,
    deviation: f64,
}

impl<'a> GaussianDenoiser<'a> {
    /// The denoiser of data with `mean`, `[channel]`, and `deviation`, for a schedule whose network time is
    /// `time_scale t`.
    pub fn new(schedule: &'a dyn NoiseSchedule, time_scale: f64, mean: &Tensor, deviation: f64) -> Self {
        Self { schedule, time_scale, mean: mean.view([1, -1, 1, 1]), deviation }
    }
}

impl Denoiser for GaussianDenoiser<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, _: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let t = t.view([-1, 1, 1, 1]) / self.time_scale;
        let alpha_bar = self.schedule.alpha_bar(&t).to_kind(Kind::Double);
        let noise_bar = 1f64 - &alpha_bar;
        let variance = &alpha_bar * (self.deviation * self.deviation) + &noise_bar;
        let share = |share: Tensor| share.to_kind(x_t.kind());
        let mean = share(alpha_bar.sqrt()) * self.mean.to_kind(x_t.kind());
        let (sigma, variance) = (share(noise_bar.sqrt()), share(variance));
        Ok(sigma * (x_t - mean) / variance)
    }
}

/// A network whose output depends on its class: `x/2 + sin(3x)/4 + t/1000 - 0.1 + table[class][channel]`.
pub(super) struct ClassNetwork<'a> {
    /// `[class, channel]`; the last row is that of no class.
    pub(super) table: &'a Tensor,
}

impl Denoiser for ClassNetwork<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let class = class.ok_or_else(|| DiffusionError::Missing {
            argument: "class",
            reason: "the network's output depends on it".to_owned(),
        })?;
        let row = self.table.index_select(0, class).unsqueeze(-1).unsqueeze(-1);
        Ok(x_t * 0.5 + (x_t * 3.0).sin() * 0.25 + t.view([-1, 1, 1, 1]) / 1000.0 - 0.1 + row)
    }

    fn null_class(&self) -> Option<i64> {
        Some(self.table.size()[0] - 1)
    }
}

/// One call of a network.
pub(super) struct Call {
    pub(super) x_t: Tensor,
    /// The network's time of the first sample.
    pub(super) t: f64,
    pub(super) noise: Tensor,
}

/// A network that keeps what passes through it.
pub(super) struct Recorder<'a> {
    denoiser: &'a dyn Denoiser,
    calls: RefCell<Vec<Call>>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(denoiser: &'a dyn Denoiser) -> Self {
        Self { denoiser, calls: RefCell::default() }
    }

    pub(super) fn into_calls(self) -> Vec<Call> {
        self.calls.into_inner()
    }
}

impl Denoiser for Recorder<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let noise = self.denoiser.predict(x_t, t, class)?;
        self.calls.borrow_mut().push(Call {
            x_t: x_t.shallow_clone(),
            t: t.to_kind(Kind::Double).double_value(&[0]),
            noise: noise.shallow_clone(),
        });
        Ok(noise)
    }
}
