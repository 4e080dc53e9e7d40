//! The network as samplers and objectives see it.

use dim_diffusion::{Denoiser, DiffusionError};
use dim_model::Dim;
use tch::Tensor;

/// A [`Dim`] as a [`Denoiser`].
#[derive(Clone, Copy)]
pub struct Network<'a>(pub &'a Dim);

impl Denoiser for Network<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.0.forward(x_t, t, class).map_err(DiffusionError::denoiser)
    }

    fn null_class(&self) -> Option<i64> {
        i64::try_from(self.0.config().null_class()).ok()
    }
}
