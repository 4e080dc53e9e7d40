//! AdamW with global gradient clipping and a moving average of the weights, over flat buffers.
//! Source: Loshchilov & Hutter 2019 (arXiv 1711.05101).

use tch::{Kind, Tensor, no_grad};

use crate::{Parameters, TorchError, ffi};

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

    /// One step with the gradients that `parameters` hold. Returns the global gradient norm before clipping, 0-dim, left
    /// on the device: reading it is the caller's choice of when to wait.
    ///
    /// # Errors
    /// Parameters without gradients, or an error of libtorch.
    pub fn step(&mut self, parameters: &Parameters, lr: f64) -> Result<Tensor, TorchError> {
        let gradients = parameters.gradients().ok_or_else(|| TorchError::FlatBuffer {
            expected: "trainable parameters".to_owned(),
            got: "parameters without gradients".to_owned(),
        })?;
        no_grad(|| {
            let norm = gradients.f_norm()?;
            if let Some(limit) = self.config.clip_norm {
                let factor = (limit / (&norm + 1e-6)).clamp_max(1.0);
                let _ = gradients.shallow_clone().f_mul_(&factor)?;
            }
            self.step += 1;
            let values = parameters.values();
            #[allow(clippy::cast_precision_loss)] // f32 counts exactly to 16.7 million steps; libtorch keeps them so
            let step = Tensor::f_full([], self.step as f64, (Kind::Float, values.device()))?;
            // SAFETY: all five are live tensors; the callee checks shapes and types and writes values and moments only.
            ffi::check(unsafe {
                ffi::dim_fused_adamw(
                    values.as_ptr(),
                    gradients.as_ptr(),
                    self.first_moment.as_ptr(),
                    self.second_moment.as_ptr(),
                    step.as_ptr(),
                    lr,
                    self.config.beta1,
                    self.config.beta2,
                    self.config.weight_decay,
                    self.config.eps,
                )
            })?;
            let _ = self.ema.f_lerp_(&values, 1.0 - self.config.ema_decay)?;
            Ok(norm)
        })
    }
}
