//! One run of a sampler: its way to the network, the schedule, the noise and the observer.

use std::ops::ControlFlow;

use tch::{Kind, Tensor};

use super::{Observer, SamplerInputs, Step};
use crate::{
    DiffusionError,
    check::{self, SAMPLING_KINDS},
    schedule::NoiseSchedule,
};

/// Checked inputs and counted calls.
pub(super) struct Run<'a, 'o, 'f> {
    inputs: SamplerInputs<'a>,
    observer: &'o mut Observer<'f>,
    /// The labels on the device of `x`.
    class: Option<Tensor>,
    steps: usize,
    evaluations: usize,
}

/// The schedule's numbers at one time, 0-dimensional, on the CPU.
///
/// libtorch multiplies a tensor on any device by these without waiting for the device.
pub(super) struct Marginal {
    pub(super) t: Tensor,
    pub(super) alpha: Tensor,
    pub(super) sigma: Tensor,
    pub(super) half_log_snr: Tensor,
}

impl<'a, 'o, 'f> Run<'a, 'o, 'f> {
    /// Checks the inputs, and the schedule at the last time it is asked for; shows the observer the start.
    pub(super) fn start(
        inputs: &SamplerInputs<'a>,
        steps: usize,
        [t_start, t_end]: [&Tensor; 2],
        observer: &'o mut Observer<'f>,
    ) -> Result<Self, DiffusionError> {
        let batch = check::batch_of("x", inputs.x, SAMPLING_KINDS)?;
        if let Some(class) = inputs.class {
            check::class_form(class, batch)?;
            if let Some(null_class) = inputs.denoiser.null_class() {
                check::class_values(class, null_class)?;
            }
        }
        let signal_left = inputs.schedule.log_alpha(t_end).double_value(&[]);
        if signal_left.is_nan() || signal_left >= 0.0 {
            return Err(DiffusionError::option(
                "t_end",
                "late enough that this schedule still has noise there",
                t_end.double_value(&[]),
            ));
        }
        let class = inputs.class.map(|class| class.to_device(inputs.x.device()));
        let mut run = Self { inputs: *inputs, observer, class, steps, evaluations: 0 };
        run.finished(0, t_start, inputs.x)?;
        Ok(run)
    }

    pub(super) fn kind(&self) -> Kind {
        self.inputs.x.kind()
    }

    pub(super) fn schedule(&self) -> &'a dyn NoiseSchedule {
        self.inputs.schedule
    }

    /// What the network says of `x`.
    fn output(&mut self, x: &Tensor, at: &Marginal) -> Result<Tensor, DiffusionError> {
        let network_time = self.inputs.schedule.network_time(&at.t).double_value(&[]);
        let output = self.inputs.denoiser.predict_at(x, network_time, self.class.as_ref())?;
        self.evaluations += 1;
        check::same_shape("the denoiser's prediction", &output, &x.size())?;
        Ok(output.to_kind(self.kind()))
    }

    /// The noise that the network sees in `x`.
    pub(super) fn noise(&mut self, x: &Tensor, at: &Marginal) -> Result<Tensor, DiffusionError> {
        let output = self.output(x, at)?;
        Ok(self.inputs.denoiser.prediction().noise(&output, x, &at.alpha, &at.sigma))
    }

    /// The clean image that the network sees in `x`.
    pub(super) fn x_0(&mut self, x: &Tensor, at: &Marginal) -> Result<Tensor, DiffusionError> {
        let output = self.output(x, at)?;
        Ok(self.inputs.denoiser.prediction().x_0(&output, x, &at.alpha, &at.sigma))
    }

    /// Both, from one call.
    pub(super) fn x_0_and_noise(&mut self, x: &Tensor, at: &Marginal) -> Result<[Tensor; 2], DiffusionError> {
        let output = self.output(x, at)?;
        let prediction = self.inputs.denoiser.prediction();
        Ok([prediction.x_0(&output, x, &at.alpha, &at.sigma), prediction.noise(&output, x, &at.alpha, &at.sigma)])
    }

    /// Noise to add at `step` (from 0).
    pub(super) fn fresh_noise(&self, step: usize, like: &Tensor) -> Result<Tensor, DiffusionError> {
        let source = self.inputs.noise.ok_or_else(|| DiffusionError::Missing {
            argument: "noise",
            reason: "this sampler adds noise at its steps".to_owned(),
        })?;
        let noise = source.draw(step, like)?;
        check::same_shape("noise", &noise, &like.size())?;
        Ok(noise)
    }

    pub(super) fn marginal(&self, t: Tensor) -> Marginal {
        let schedule = self.inputs.schedule;
        Marginal { alpha: schedule.alpha(&t), sigma: schedule.sigma(&t), half_log_snr: schedule.half_log_snr(&t), t }
    }

    /// The schedule's numbers a fraction `r` of the way `h` from `start`, both in half the log signal-to-noise ratio.
    pub(super) fn marginal_between(&self, start: &Marginal, h: &Tensor, r: &Tensor) -> Marginal {
        let half_log_snr = &start.half_log_snr + r * h;
        self.marginal(self.inputs.schedule.time_at_half_log_snr(&half_log_snr))
    }

    /// Tells the observer that `step` steps are finished, and stops if it says so.
    pub(super) fn finished(&mut self, step: usize, t: &Tensor, x: &Tensor) -> Result<(), DiffusionError> {
        let seen = Step { step, steps: self.steps, evaluations: self.evaluations, t: t.double_value(&[]), x };
        match (self.observer)(&seen) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DiffusionError::Cancelled { step, steps: self.steps }),
        }
    }
}
