//! What training changes: the network's weights, the optimiser's moments and moving average, and how far it has come.

use std::path::Path;

use super::initial_weights;
use dim_model::{BackboneConfig, Precision, Recompute};
use dim_torch::{AdamW, AdamWConfig, Parameters};
use tch::{Device, Tensor};

use crate::config::{Config, Train};
use crate::denoiser::Network;
use crate::ema::PowerAverages;
use crate::error::TrainerError;

/// The state of a run. All randomness is a function of the seed and `images_seen`, so this is all there is.
pub struct TrainState {
    /// The network in training.
    pub network: Network,
    /// Moments, moving average and the number of steps.
    pub optimizer: AdamW,
    /// Images seen.
    pub images_seen: u64,
    /// The network with the moving average of the weights; shares the optimiser's buffer.
    pub ema: Network,
    /// Averages of the weights under power-function profiles.
    pub averages: PowerAverages,
}

impl TrainState {
    /// All zero, to be filled by [`initialise`](Self::initialise), [`start_from`](Self::start_from) or a checkpoint.
    ///
    /// # Errors
    /// [`TrainerError::Model`] or [`TrainerError::Torch`], out of memory mostly.
    pub fn zeros(config: &Config, device: Device, precision: Precision) -> Result<Self, TrainerError> {
        let parameters = Parameters::zeros(&config.model.parameter_specs(), device)?;
        let prediction = config.diffusion.prediction;
        let mut network = Network::new(config.model.clone(), parameters, precision)?.predicting(prediction);
        let (blocks, scan) = (config.train.recompute_blocks, config.train.recompute_scan);
        network.set_recompute(Recompute { blocks, scan });
        let optimizer = AdamW::new(optimizer_config(&config.train), network.parameters());
        let ema = Parameters::from_flat(network.parameters().specs(), optimizer.ema.shallow_clone())?;
        let ema = Network::new(config.model.clone(), ema, precision)?.predicting(prediction);
        let averages = PowerAverages::zeros(config.ema.as_ref(), &network.parameters().values())?;
        Ok(Self { network, optimizer, images_seen: 0, ema, averages })
    }

    /// Fresh weights, drawn from `seed`.
    ///
    /// # Errors
    /// [`TrainerError::Model`].
    pub fn initialise(&mut self, seed: u64) -> Result<(), TrainerError> {
        self.network.initialise(seed)?;
        self.restart_average()
    }

    /// The weights of a file, which may be those of another image size; the moving average starts from them, too.
    ///
    /// # Errors
    /// [`TrainerError::Weights`].
    pub fn start_from(&mut self, path: &Path) -> Result<(), TrainerError> {
        initial_weights::load(path, &self.network)?;
        self.restart_average()
    }

    /// Lets the averages under power-function profiles take in the weights that the optimiser's last step left.
    ///
    /// # Errors
    /// [`TrainerError::Libtorch`].
    pub fn update_averages(&mut self) -> Result<(), TrainerError> {
        self.averages.update(&self.network.parameters().values(), self.optimizer.step)
    }

    fn restart_average(&mut self) -> Result<(), TrainerError> {
        Ok(self.optimizer.ema.f_copy_(&self.network.parameters().values())?)
    }

    /// Every tensor of the state by name, as views: `parameters.…`, `first_moment.…`, `second_moment.…`, `ema.…`, and
    /// `ema_0.05.…` for each average under a power-function profile.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainerError> {
        let specs = self.network.parameters().specs();
        let values = self.network.parameters().values();
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
        Config::parse(text, "smoke.toml", overrides).unwrap().train
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
