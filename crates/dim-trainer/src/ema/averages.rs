//! The averages that training keeps up to date.

use dim_torch::{ParameterSpec, TorchError};
use tch::Tensor;

use super::PowerProfile;
use crate::config::Ema;
use crate::error::TrainerError;
use crate::flat::named;

/// Averages of the weights under power-function profiles, one for each `ema.sigma_rel`; none without `[ema]`.
///
/// After every `update_every_steps`-th step of the optimiser an average moves towards the weights of that step by
/// [`PowerProfile::share_of_newest`], in f32; the weights of the steps between are left out, so it is the average, under the same profile,
/// over every such step. The share is a function of the optimiser's number of steps, so the averages' values are all that resume needs.
pub struct PowerAverages {
    update_every_steps: u64,
    averages: Vec<Average>,
}

struct Average {
    sigma_rel: f64,
    profile: PowerProfile,
    /// Flat, as the parameters.
    values: Tensor,
}

impl PowerAverages {
    /// Averages, still zero, of parameters whose flat buffer is `values`.
    ///
    /// # Errors
    /// [`TrainerError::Libtorch`], out of memory mostly; [`TrainerError::Usage`] for a width that no profile has.
    pub fn zeros(config: Option<&Ema>, values: &Tensor) -> Result<Self, TrainerError> {
        let widths = config.map_or(&[][..], |config| &config.sigma_rel);
        let averages = widths.iter().map(|&sigma_rel| {
            let profile = PowerProfile::from_sigma_rel(sigma_rel)
                .ok_or_else(|| TrainerError::Usage(format!("ema.sigma_rel: no profile is {sigma_rel} wide")))?;
            Ok(Average { sigma_rel, profile, values: values.f_zeros_like()? })
        });
        Ok(Self {
            update_every_steps: config.map_or(1, |config| config.update_every_steps),
            averages: averages.collect::<Result<_, TrainerError>>()?,
        })
    }

    /// The widths of their profiles.
    pub fn sigma_rel(&self) -> Vec<f64> {
        self.averages.iter().map(|average| average.sigma_rel).collect()
    }

    /// How many weights are in each average after `step` steps of the optimiser.
    pub fn updates(&self, step: u64) -> u64 {
        step / self.update_every_steps
    }

    /// Takes in the weights `values`, flat, that step `step` (from 1) of the optimiser left, if it is that step's turn.
    ///
    /// # Errors
    /// [`TrainerError::Libtorch`].
    pub fn update(&mut self, values: &Tensor, step: u64) -> Result<(), TrainerError> {
        if !step.is_multiple_of(self.update_every_steps) {
            return Ok(());
        }
        let _no_grad = tch::no_grad_guard();
        let update = self.updates(step);
        for average in &mut self.averages {
            let _ = average.values.f_lerp_(values, average.profile.share_of_newest(update))?;
        }
        Ok(())
    }

    /// The flat buffers by name: `ema_0.05` for the width 0.05.
    pub fn flat_tensors(&self) -> Vec<(String, Tensor)> {
        self.averages.iter().map(|average| (group(average.sigma_rel), average.values.shallow_clone())).collect()
    }

    /// The same averages with other buffers.
    ///
    /// # Errors
    /// What `values` returns.
    pub fn map(&self, values: impl Fn(&Tensor) -> Result<Tensor, TrainerError>) -> Result<Self, TrainerError> {
        let averages = self.averages.iter().map(|average| {
            let Average { sigma_rel, profile, .. } = *average;
            Ok(Average { sigma_rel, profile, values: values(&average.values)? })
        });
        let averages = averages.collect::<Result<_, TrainerError>>()?;
        Ok(Self { update_every_steps: self.update_every_steps, averages })
    }

    /// The averages of every parameter by name, as views: `ema_0.05.…` for the width 0.05.
    ///
    /// # Errors
    /// [`TorchError::FlatBuffer`] for the parameters of another network.
    pub fn tensors(&self, specs: &[ParameterSpec]) -> Result<Vec<(String, Tensor)>, TorchError> {
        named(specs, &self.flat_tensors())
    }
}

/// What the names of an average's tensors begin with.
pub(super) fn group(sigma_rel: f64) -> String {
    format!("ema_{sigma_rel}")
}
