//! The gradient of one optimiser step, in pieces that fit the device.

use dim_diffusion::objective::Objective;
use dim_diffusion::schedule::NoiseSchedule;
use dim_model::Dim;
use tch::{Kind, Tensor};

use crate::denoiser::Network;
use crate::error::TrainerError;

/// What the gradient is taken of.
pub struct Loss {
    /// The objective, with all its randomness.
    pub objective: Objective,
    /// The noise schedule.
    pub schedule: Box<dyn NoiseSchedule>,
    /// Images that go through the network at once; divides the batch.
    pub micro_batch_size: usize,
}

impl Loss {
    /// Leaves the gradient of the batch's mean loss in the network's parameters. Returns that loss, 0-dim, on the device, without waiting for it.
    ///
    /// - `images`: `[image, channel, row, column]` in [-1, 1], on the network's device
    /// - `class`: `[image]`, i64; `None` trains without classes
    /// - `images_seen`: images seen before this batch; noise and times of image `i` are a function of `images_seen + i`, so the result
    ///   depends on `micro_batch_size` in its rounding alone
    ///
    /// # Errors
    /// [`TrainerError::Diffusion`], [`TrainerError::Libtorch`]: out of memory mostly.
    pub fn gradients(
        &self,
        dim: &Dim,
        images: &Tensor,
        class: Option<&Tensor>,
        images_seen: u64,
    ) -> Result<Tensor, TrainerError> {
        dim.parameters().zero_gradients();
        let batch = images.size()[0];
        let micro = (self.micro_batch_size as i64).min(batch);
        let mut total = Tensor::f_zeros([], (Kind::Float, images.device()))?;
        for start in (0..batch).step_by(micro as usize) {
            let piece = micro.min(batch - start);
            let class = class.map(|class| class.f_narrow(0, start, piece)).transpose()?;
            let loss = self.objective.loss(
                &Network(dim),
                &*self.schedule,
                &images.f_narrow(0, start, piece)?,
                class.as_ref(),
                images_seen + start as u64,
            )?;
            let share = loss.mean * (piece as f64 / batch as f64);
            share.f_backward()?;
            total = total.f_add(&share.f_detach()?)?;
        }
        Ok(total)
    }
}
