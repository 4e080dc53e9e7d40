//! AdamW with global gradient clipping and a moving average of the weights, over flat buffers.
//! Source: Loshchilov & Hutter 2019 (arXiv 1711.05101).

use std::num::NonZeroU64;

use dim_kernels::adamw_ema::{self, AdamWEma, AdamWEmaState, Clip, Constants};
use tch::{Kind, Tensor};

use crate::{
    Parameters, TorchError,
    bridge::{queue, view, view_in_place, view_mut},
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
}

/// The optimiser's state: flat f32 buffers beside the parameters', and the number of steps taken.
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
}

impl AdamW {
    /// A fresh optimiser; the moving average starts at the parameters' present values.
    #[must_use]
    pub fn new(config: AdamWConfig, parameters: &Parameters) -> Self {
        let values = parameters.values();
        Self {
            config,
            first_moment: values.zeros_like(),
            second_moment: values.zeros_like(),
            ema: values.copy(),
            step: 0,
        }
    }

    /// One step with the gradients that `parameters` hold, which stay as they are; the parameters' bf16 copy, if they have one,
    /// follows. Returns the global gradient norm before clipping, 0-dim, left on the device: reading it is the caller's choice
    /// of when to wait.
    ///
    /// # Errors
    /// Parameters without gradients, buffers that do not fit each other, or an error of libtorch or a kernel.
    pub fn step(&mut self, parameters: &Parameters, lr: f64) -> Result<Tensor, TorchError> {
        let gradients = parameters.gradients().ok_or_else(|| TorchError::FlatBuffer {
            expected: "trainable parameters".to_owned(),
            got: "parameters without gradients".to_owned(),
        })?;
        let AdamWConfig { beta1, beta2, eps, weight_decay, clip_norm, ema_decay } = self.config;
        let (values, copy) = (parameters.values(), parameters.flat_bf16()?);
        let queue = queue(&values)?;
        let mut norm = Tensor::f_empty([1], (Kind::Float, values.device()))?;
        adamw_ema::gradient_norm(
            &queue,
            &view(NAME, "gradients", &gradients)?,
            1.0,
            view_mut(NAME, "norm", &mut norm)?,
        )?;

        let step = NonZeroU64::MIN.saturating_add(self.step);
        let clip = clip_norm.map(|max_norm| Ok::<_, TorchError>(Clip { norm: view(NAME, "norm", &norm)?, max_norm }));
        let inputs = AdamWEma {
            gradients: view(NAME, "gradients", &gradients)?,
            clip: clip.transpose()?,
            schedule: None,
            constants: Constants { lr, beta1, beta2, eps, weight_decay, ema_decay, gradient_scale: 1.0, step },
        };
        // SAFETY: five buffers of their own, each viewed once: those of the state belong to `self`, which is borrowed
        // exclusively, and those of the parameters are in use by no one else during a step, since tensors are not shared
        // between threads.
        let state = unsafe {
            AdamWEmaState {
                parameters: view_in_place(NAME, "parameters", &values)?,
                first_moment: view_in_place(NAME, "first_moment", &self.first_moment)?,
                second_moment: view_in_place(NAME, "second_moment", &self.second_moment)?,
                ema: view_in_place(NAME, "ema", &self.ema)?,
                bf16_copy: copy.as_ref().map(|copy| view_in_place(NAME, "bf16_copy", copy)).transpose()?,
            }
        };
        adamw_ema::step(&queue, &inputs, state)?;
        parameters.mark_bf16_fresh();
        self.step = step.get();
        Ok(norm.f_view([0_i64; 0])?)
    }
}
