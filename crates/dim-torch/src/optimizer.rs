//! AdamW with global gradient clipping and a moving average of the weights, over flat buffers.
//! Source: Loshchilov & Hutter 2019 (arXiv 1711.05101).

use std::num::NonZeroU64;

use dim_kernels::adamw_ema::{self, AdamWEma, AdamWEmaState, Clip, Constants};
use tch::{Kind, Tensor};

use crate::{
    Parameters, TorchError,
    bridge::{queue, view, view_in_place, view_mut},
    distributed::World,
};

const NAME: &str = "AdamW::step";

/// The optimiser's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on every parameter as the authors do.
    pub weight_decay: f64,
    /// Largest global gradient norm; `None` clips nothing.
    pub clip_norm: Option<f64>,
    /// Decay of the moving average, applied at every step.
    pub ema_decay: f64,
    /// Whether the average begins with smaller decays: see [`AdamWConfig::ema_decay_at`].
    pub ema_warmup: bool,
}

impl AdamWConfig {
    /// The decay of the moving average in the step after `steps`: `ema_decay`, or, if it warms up, `(1 + steps) / (10 + steps)` while that is
    /// less, so that the average of a short run forgets the fresh parameters, too.
    #[must_use]
    pub fn ema_decay_at(&self, steps: u64) -> f64 {
        #[allow(clippy::cast_precision_loss)] // beyond 2^53 steps the ratio is 1 anyway
        let steps = steps as f64;
        if self.ema_warmup { self.ema_decay.min((1.0 + steps) / (10.0 + steps)) } else { self.ema_decay }
    }
}

/// The optimiser's state: flat f32 buffers beside the parameters', or beside a slice of them, and the number of steps taken.
pub struct AdamW {
    config: AdamWConfig,
    /// Moving mean of the gradient.
    pub first_moment: Tensor,
    /// Moving mean of the squared gradient.
    pub second_moment: Tensor,
    /// Moving average of the parameters, for inference.
    pub ema: Tensor,
    /// Steps taken.
    pub step: u64,
    /// Where in the flat buffer they begin.
    start: i64,
}

impl AdamW {
    /// A fresh optimiser; the moving average starts at the parameters' present values.
    #[must_use]
    pub fn new(config: AdamWConfig, parameters: &Parameters) -> Self {
        Self::of_slice(config, &parameters.values(), 0)
    }

    /// An optimiser of those elements of the flat buffer alone that `values` shows, from `start` on.
    #[must_use]
    pub fn of_slice(config: AdamWConfig, values: &Tensor, start: i64) -> Self {
        Self {
            config,
            first_moment: values.zeros_like(),
            second_moment: values.zeros_like(),
            ema: values.copy(),
            step: 0,
            start,
        }
    }

    /// One step with the gradients that `parameters` hold, which stay as they are; the parameters' bf16 copy, if they have one,
    /// follows. Returns the global gradient norm before clipping, 0-dim, left on the device: reading it is the caller's choice
    /// of when to wait.
    ///
    /// # Errors
    /// Parameters without gradients, buffers that do not fit each other, or an error of libtorch or a kernel.
    pub fn step(&mut self, parameters: &Parameters, lr: f64) -> Result<Tensor, TorchError> {
        let values = parameters.values();
        let gradients = parameters.gradients().ok_or_else(|| TorchError::FlatBuffer {
            expected: "trainable parameters".to_owned(),
            got: "parameters without gradients".to_owned(),
        })?;
        let gradients = gradients.f_narrow(0, 0, values.size()[0])?;
        let norm = norm(&gradients)?;
        self.advance(&values, &gradients, parameters.flat_bf16()?, &norm, lr)?;
        parameters.mark_bf16_fresh();
        Ok(norm.f_view([0_i64; 0])?)
    }

    /// One step of this optimiser's slice with its `gradients`, of all processes together: the others take theirs, and get the new
    /// values of all. Returns the global gradient norm, as [`AdamW::step`].
    ///
    /// # Errors
    /// As [`AdamW::step`]; [`TorchError::LostPeer`].
    pub fn step_slice(
        &mut self,
        world: &World,
        parameters: &Parameters,
        gradients: &Tensor,
        lr: f64,
    ) -> Result<Tensor, TorchError> {
        let square = norm(gradients)?.f_square_()?;
        world.all_reduce(&square)?.wait()?;
        let norm = square.f_sqrt()?;
        let values = parameters.part(self.start, self.ema.size()[0])?;
        self.advance(&values, gradients, None, &norm, lr)?;
        parameters.share_parts(world, &values)?;
        Ok(norm.f_view([0_i64; 0])?)
    }

    /// Where the slice begins in the flat buffer; 0 for an optimiser of all.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.start
    }

    fn advance(
        &mut self,
        values: &Tensor,
        gradients: &Tensor,
        copy: Option<Tensor>,
        norm: &Tensor,
        lr: f64,
    ) -> Result<(), TorchError> {
        let AdamWConfig { beta1, beta2, eps, weight_decay, clip_norm, .. } = self.config;
        let ema_decay = self.config.ema_decay_at(self.step);
        let step = NonZeroU64::MIN.saturating_add(self.step);
        let clip = clip_norm.map(|max_norm| Ok::<_, TorchError>(Clip { norm: view(NAME, "norm", norm)?, max_norm }));
        let inputs = AdamWEma {
            gradients: view(NAME, "gradients", gradients)?,
            clip: clip.transpose()?,
            schedule: None,
            constants: Constants { lr, beta1, beta2, eps, weight_decay, ema_decay, gradient_scale: 1.0, step },
        };
        // SAFETY: five buffers of their own, each viewed once: those of the state belong to `self`, which is borrowed
        // exclusively, and those of the parameters are in use by no one else during a step, since tensors are not shared
        // between threads.
        let state = unsafe {
            AdamWEmaState {
                parameters: view_in_place(NAME, "parameters", values)?,
                first_moment: view_in_place(NAME, "first_moment", &self.first_moment)?,
                second_moment: view_in_place(NAME, "second_moment", &self.second_moment)?,
                ema: view_in_place(NAME, "ema", &self.ema)?,
                bf16_copy: copy.as_ref().map(|copy| view_in_place(NAME, "bf16_copy", copy)).transpose()?,
            }
        };
        adamw_ema::step(&queue(values)?, &inputs, state)?;
        self.step = step.get();
        Ok(())
    }
}

/// The norm of flat gradients, `[1]`, f32.
fn norm(gradients: &Tensor) -> Result<Tensor, TorchError> {
    let mut norm = Tensor::f_empty([1], (Kind::Float, gradients.device()))?;
    let queue = queue(gradients)?;
    adamw_ema::gradient_norm(&queue, &view(NAME, "gradients", gradients)?, 1.0, view_mut(NAME, "norm", &mut norm)?)?;
    Ok(norm)
}
