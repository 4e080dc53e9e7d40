//! What this crate asks of a network.

use tch::{Kind, Tensor};

use crate::{DiffusionError, Prediction};

/// A network that tells image and noise apart in a noisy image; in which form, [`Denoiser::prediction`] says.
pub trait Denoiser {
    /// Predicts what [`Denoiser::prediction`] says of `x_t`.
    ///
    /// - `x_t`: `[batch, channel, row, column]`, or any other shape that starts with the batch
    /// - `t`: `[batch]`, f32 (f64 where `x_t` is f64), the network's own time: the schedule's
    ///   [`network_time`](crate::schedule::NoiseSchedule::network_time), not the schedule's `t`
    /// - `class`: `[batch]`, i64, each in `0..=null_class`; `None` for a network used without classes
    ///
    /// Returns a floating-point tensor of the shape of `x_t` on its device.
    ///
    /// # Errors
    /// Whatever the network reports, wrapped by [`DiffusionError::denoiser`].
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError>;

    /// As [`Denoiser::predict`], with one time for all images: what samplers call, so that no one has to read the time from a
    /// device.
    ///
    /// # Errors
    /// As [`Denoiser::predict`].
    fn predict_at(&self, x_t: &Tensor, network_time: f64, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.predict(x_t, &times(x_t, network_time)?, class)
    }

    /// What the output stands for. Samplers and the loss ask for it, so that each works with every kind of network.
    fn prediction(&self) -> Prediction {
        Prediction::Epsilon
    }

    /// The label that means "no class", one above the last class; `None` if the network knows no classes.
    ///
    /// Where it is known, the samplers check labels against it and guidance can use it.
    fn null_class(&self) -> Option<i64> {
        None
    }
}

/// One time for every image of `x_t`, `[batch]`: filled with a scalar, not copied, so that a GPU is not waited for.
pub(crate) fn times(x_t: &Tensor, network_time: f64) -> Result<Tensor, DiffusionError> {
    let kind = if x_t.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    Ok(Tensor::f_full([x_t.size()[0]], network_time, (kind, x_t.device()))?)
}

/// Any closure is a denoiser without classes that predicts the noise.
impl<F> Denoiser for F
where
    F: Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor, DiffusionError>,
{
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self(x_t, t, class)
    }
}
