//! The numbers of a step.

use std::num::NonZeroU64;

/// The numbers of a step. What is derived from them is computed in f64 and rounded once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the moving average of the parameters.
    pub ema_decay: f64,
    /// Factor of the gradients, before they are clipped: one over their number, where gradients were added up.
    pub gradient_scale: f64,
    /// Number of this step, from 1: it sets the moments' bias corrections.
    pub step: NonZeroU64,
}

/// What kernels compute with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalars {
    /// Learning rate over the first moment's bias correction.
    pub(super) step_size: f32,
    /// Learning rate times weight decay.
    pub(super) decay: f32,
    /// Root of the second moment's bias correction.
    pub(super) root_correction: f32,
    pub(super) first_rate: f32,
    pub(super) second_decay: f32,
    pub(super) second_rate: f32,
    pub(super) eps: f32,
    pub(super) ema_rate: f32,
    pub(super) gradient_scale: f32,
}

impl Constants {
    /// What changes from step to step, as [`super::AdamWEma::schedule`] takes it: the learning rate over the first moment's
    /// bias correction, the learning rate times the weight decay, and the root of the second moment's bias correction.
    #[must_use]
    pub fn schedule(&self) -> [f32; 3] {
        let Scalars { step_size, decay, root_correction, .. } = self.scalars();
        [step_size, decay, root_correction]
    }

    /// One minus `decay` to the power of the step.
    pub(super) fn bias_correction(&self, decay: f64) -> f64 {
        #[allow(clippy::cast_precision_loss)] // far beyond 2^53 the correction is 1 anyway
        let step = self.step.get() as f64;
        1.0 - decay.powf(step)
    }

    #[allow(clippy::cast_possible_truncation)] // rounding is what it is for
    pub(super) fn scalars(&self) -> Scalars {
        Scalars {
            step_size: (self.lr / self.bias_correction(self.beta1)) as f32,
            decay: (self.lr * self.weight_decay) as f32,
            root_correction: self.bias_correction(self.beta2).sqrt() as f32,
            first_rate: (1.0 - self.beta1) as f32,
            second_decay: self.beta2 as f32,
            second_rate: (1.0 - self.beta2) as f32,
            eps: self.eps as f32,
            ema_rate: (1.0 - self.ema_decay) as f32,
            gradient_scale: self.gradient_scale as f32,
        }
    }
}
