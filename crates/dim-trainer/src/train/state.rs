//! What training changes: the network's weights, the optimiser's moments and moving average, and how far it has come.

use std::path::Path;

use dim_model::Precision;
use dim_torch::{AdamW, AdamWConfig, Parameters};
use tch::{Device, Tensor};

use super::task::Task;
use crate::config::{RunConfig, Train};
use crate::ema::PowerAverages;
use crate::error::TrainerError;

/// The state of a run. All randomness is a function of the seed and `images_seen`, so this is all there is.
pub struct TrainState<T: Task> {
    /// The network in training.
    pub network: T::Network,
    /// Moments, moving average and the number of steps.
    pub optimizer: AdamW,
    /// Images seen.
    pub images_seen: u64,
    /// The network with the moving average of the weights; shares the optimiser's buffer.
    pub ema: T::Network,
    /// Averages of the weights under power-function profiles.
    pub averages: PowerAverages,
}

impl<T: Task> TrainState<T> {
    /// All zero, to be filled by [`initialise`](Self::initialise), [`start_from`](Self::start_from) or a checkpoint.
    ///
    /// # Errors
    /// [`TrainerError::Model`] or [`TrainerError::Torch`], out of memory mostly.
    pub fn zeros(config: &T::Config, device: Device, precision: Precision) -> Result<Self, TrainerError> {
        let specs = T::specs(config);
        let network = T::build(config, Parameters::zeros(&specs, device)?, precision)?;
        let optimizer = AdamW::new(optimizer_config(config.train()), T::parameters(&network));
        let ema = T::build(config, Parameters::from_flat(&specs, optimizer.ema.shallow_clone())?, precision)?;
        let averages = PowerAverages::zeros(config.ema(), &T::parameters(&network).values())?;
        Ok(Self { network, optimizer, images_seen: 0, ema, averages })
    }

    /// Fresh weights, drawn from `seed`.
    ///
    /// # Errors
    /// [`TrainerError::Model`].
    pub fn initialise(&mut self, seed: u64) -> Result<(), TrainerError> {
        T::initialise(&self.network, seed)?;
        self.restart_average()
    }

    /// The weights of a file, which may be those of another image size; the moving average starts from them, too.
    ///
    /// # Errors
    /// [`TrainerError::Weights`].
    pub fn start_from(&mut self, path: &Path, config: &T::Config) -> Result<(), TrainerError> {
        T::start_from(&self.network, path, config)?;
        self.restart_average()
    }

    /// Lets the averages under power-function profiles take in the weights that the optimiser's last step left.
    ///
    /// # Errors
    /// [`TrainerError::Libtorch`].
    pub fn update_averages(&mut self) -> Result<(), TrainerError> {
        self.averages.update(&T::parameters(&self.network).values(), self.optimizer.step)
    }

    fn restart_average(&mut self) -> Result<(), TrainerError> {
        Ok(self.optimizer.ema.f_copy_(&T::parameters(&self.network).values())?)
    }

    /// Every tensor of the state by name, as views: `parameters.…`, `first_moment.…`, `second_moment.…`, `ema.…`, and
    /// `ema_0.05.…` for each average under a power-function profile.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainerError> {
        let specs = T::parameters(&self.network).specs();
        let values = T::parameters(&self.network).values();
        let mut tensors = Vec::with_capacity(4 * specs.len());
        for (group, flat) in [
            ("parameters", &values),
            ("first_moment", &self.optimizer.first_moment),
            ("second_moment", &self.optimizer.second_moment),
            ("ema", &self.optimizer.ema),
        ] {
            let views = Parameters::from_flat(specs, flat.shallow_clone())?;
            tensors.extend(views.iter().map(|(spec, view)| (format!("{group}.{}", spec.name), view.shallow_clone())));
        }
        tensors.extend(self.averages.tensors(specs)?);
        Ok(tensors)
    }
}

fn optimizer_config(train: &Train) -> AdamWConfig {
    AdamWConfig {
        beta1: train.beta1,
        beta2: train.beta2,
        eps: train.eps,
        weight_decay: train.weight_decay,
        clip_norm: train.clip_norm,
        ema_decay: train.ema_decay,
    }
}

/// The learning rate of the step that starts after `images_seen` images: linear warm-up, then constant.
///
/// The first step of a run with warm-up has rate 0, as in the authors' training.
pub fn learning_rate(train: &Train, images_seen: u64) -> f64 {
    if images_seen >= train.warmup_images {
        train.lr
    } else {
        train.lr * (images_seen as f64 / train.warmup_images as f64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn train(overrides: &[String]) -> Train {
        let text = include_str!("../../../../configs/smoke.toml");
        crate::config::Config::parse(text, "smoke.toml", overrides).unwrap().train
    }

    #[test]
    fn first_step_of_a_warm_up_has_rate_zero() {
        assert_eq!(learning_rate(&train(&["train.warmup_images=100".into()]), 0), 0.0);
        let without = train(&["train.warmup_images=0".into()]);
        assert_eq!(learning_rate(&without, 0), without.lr);
    }

    proptest! {
        #[test]
        fn learning_rate_climbs_in_a_line_and_stays(warmup in 1_u64..1_000_000, images_seen in 0_u64..2_000_000) {
            let train = train(&[format!("train.warmup_images={warmup}")]);
            let expected = train.lr * (images_seen as f64 / warmup as f64).min(1.0);
            prop_assert!((learning_rate(&train, images_seen) - expected).abs() <= 1e-15 * train.lr);
        }
    }
}
