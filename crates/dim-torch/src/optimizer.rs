//! AdamW with global gradient clipping and a moving average of the weights, over flat buffers.
//! Source: Loshchilov & Hutter 2019 (arXiv 1711.05101).

use std::num::NonZeroU64;
use std::ops::Range;

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
    /// Decoupled weight decay, on every parameter as the authors do, unless [`AdamW::decaying_matrices_alone`] says otherwise.
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
    /// All elements, in their order.
    runs: Vec<Run>,
}

/// Neighbouring elements that all decay, or none of which does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// From the beginning of the optimiser's slice.
    first: i64,
    length: i64,
    decays: bool,
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
            runs: vec![Run { first: 0, length: values.size()[0], decays: true }],
        }
    }

    /// Lets weight decay reach those of `parameters` alone that are [matrices](crate::ParameterSpec::matrix): no biases, norms, tables, nor Mamba's A and D.
    /// `parameters` are those whose values, or whose slice, it was made for.
    ///
    /// A step then is one launch for each run of neighbours that are treated alike, some hundreds in a large network; its bits are those of one launch.
    #[must_use]
    pub fn decaying_matrices_alone(mut self, parameters: &Parameters) -> Self {
        let own = self.start..self.start + self.ema.size()[0];
        let runs = parameters.runs();
        let ends = runs.iter().skip(1).map(|&(start, _)| start).chain([i64::MAX]);
        let run = |(&(start, decays), end): (&(i64, bool), i64)| {
            let (start, end) = (start.max(own.start), end.min(own.end));
            Run { first: start - own.start, length: end - start, decays }
        };
        self.runs = runs.iter().zip(ends).map(run).filter(|run| run.length > 0).collect();
        self
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
        let buffers = Buffers { values, gradients, bf16_copy: parameters.flat_bf16()? };
        self.advance(&buffers, &norm, lr, 0..buffers.values.size()[0])?;
        self.step = self.step.saturating_add(1);
        parameters.mark_bf16_fresh();
        Ok(norm.f_view([0_i64; 0])?)
    }

    /// One step of this optimiser's slice with its `gradients`, of all processes together: the others take theirs, and get the new
    /// values of all; of parameters with a bf16 copy, [as far as they are read](Parameters::values). `meanwhile` is called when the gradients
    /// are no longer needed and the last values are still under way. Returns the global gradient norm, as [`AdamW::step`].
    ///
    /// # Errors
    /// As [`AdamW::step`]; [`TorchError::LostPeer`].
    pub fn step_slice(
        &mut self,
        world: &World,
        parameters: &Parameters,
        gradients: &Tensor,
        lr: f64,
        meanwhile: impl FnOnce() -> Result<(), TorchError>,
    ) -> Result<Tensor, TorchError> {
        let square = norm(gradients)?.f_square_()?;
        world.all_reduce(&square)?.wait()?;
        let norm = square.f_sqrt()?;
        let length = self.ema.size()[0];
        let (values, gradients) = (parameters.part(self.start, length)?, gradients.shallow_clone());
        match parameters.begin_gathering(world)? {
            Some(mut gathering) => {
                let buffers = Buffers { values, gradients, bf16_copy: Some(gathering.own_copy()?) };
                for (number, piece) in gathering.pieces().into_iter().enumerate() {
                    self.advance(&buffers, &norm, lr, piece)?;
                    gathering.send(number)?;
                }
                meanwhile()?;
                gathering.finish()?;
            }
            None => {
                let buffers = Buffers { values, gradients, bf16_copy: None };
                self.advance(&buffers, &norm, lr, 0..length)?;
                meanwhile()?;
                parameters.share_parts(world, &buffers.values)?;
            }
        }
        self.step = self.step.saturating_add(1);
        Ok(norm.f_view([0_i64; 0])?)
    }

    /// Where the slice begins in the flat buffer; 0 for an optimiser of all.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.start
    }

    /// Elements `range` of the next step.
    fn advance(&self, buffers: &Buffers, norm: &Tensor, lr: f64, range: Range<i64>) -> Result<(), TorchError> {
        let clip = |max_norm| Ok::<_, TorchError>(Clip { norm: view(NAME, "norm", norm)?, max_norm });
        let clip = self.config.clip_norm.map(clip).transpose()?;
        for run in &self.runs {
            let (first, end) = (run.first.max(range.start), (run.first + run.length).min(range.end));
            if first >= end {
                continue;
            }
            let part = |tensor: &Tensor| tensor.f_narrow(0, first, end - first);
            let part = Part {
                values: part(&buffers.values)?,
                gradients: part(&buffers.gradients)?,
                first_moment: part(&self.first_moment)?,
                second_moment: part(&self.second_moment)?,
                ema: part(&self.ema)?,
                bf16_copy: buffers.bf16_copy.as_ref().map(part).transpose()?,
            };
            part.advance(clip, self.constants(lr, run.decays))?;
        }
        Ok(())
    }

    /// The numbers of the next step.
    fn constants(&self, lr: f64, decays: bool) -> Constants {
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        Constants {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay: if decays { weight_decay } else { 0.0 },
            ema_decay: self.config.ema_decay_at(self.step),
            gradient_scale: 1.0,
            step: NonZeroU64::MIN.saturating_add(self.step),
        }
    }
}

/// What a step reads and writes beside the optimiser's own state: of all its elements.
struct Buffers {
    values: Tensor,
    gradients: Tensor,
    bf16_copy: Option<Tensor>,
}

/// Neighbouring elements, and what belongs to them.
struct Part {
    values: Tensor,
    gradients: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    ema: Tensor,
    bf16_copy: Option<Tensor>,
}

impl Part {
    /// One step with these gradients, of whose whole `clip` says the norm.
    fn advance(&self, clip: Option<Clip<'_>>, constants: Constants) -> Result<(), TorchError> {
        let inputs = AdamWEma { gradients: view(NAME, "gradients", &self.gradients)?, clip, schedule: None, constants };
        // SAFETY: buffers of their own, each viewed once: those of the state belong to the optimiser, which is borrowed
        // exclusively, and those of the parameters are in use by no one else during a step, since tensors are not shared
        // between threads.
        let state = unsafe {
            AdamWEmaState {
                parameters: view_in_place(NAME, "parameters", &self.values)?,
                first_moment: view_in_place(NAME, "first_moment", &self.first_moment)?,
                second_moment: view_in_place(NAME, "second_moment", &self.second_moment)?,
                ema: view_in_place(NAME, "ema", &self.ema)?,
                bf16_copy: self.bf16_copy.as_ref().map(|copy| view_in_place(NAME, "bf16_copy", copy)).transpose()?,
            }
        };
        Ok(adamw_ema::step(&queue(&self.values)?, &inputs, state)?)
    }
}

/// The norm of flat gradients, `[1]`, f32.
fn norm(gradients: &Tensor) -> Result<Tensor, TorchError> {
    let mut norm = Tensor::f_empty([1], (Kind::Float, gradients.device()))?;
    let queue = queue(gradients)?;
    adamw_ema::gradient_norm(&queue, &view(NAME, "gradients", gradients)?, 1.0, view_mut(NAME, "norm", &mut norm)?)?;
    Ok(norm)
}
