//! What training changes: the network's weights, the optimiser's moments and moving average, and how far it has come.

use std::path::Path;

use dim_model::Precision;
use dim_torch::distributed::World;
use dim_torch::{AdamW, AdamWConfig, Parameters};
use tch::{Device, Tensor};

use super::task::Task;
use super::team::{GradientSum, Team};
use crate::config::{RunConfig, Split, Train, WeightDecayOn};
use crate::ema::PowerAverages;
use crate::error::TrainerError;
use crate::flat::named;

/// The state of a run. All randomness is a function of the seed and `images_seen`, so this is all there is.
pub struct TrainState<T: Task> {
    /// The network in training.
    pub network: T::Network,
    /// Moments, moving average and the number of steps.
    pub optimizer: AdamW,
    /// Images seen.
    pub images_seen: u64,
    /// Averages of the weights under power-function profiles.
    pub averages: PowerAverages,
    /// The processes that train together; `None` for one that is alone.
    pub team: Option<Team>,
    precision: Precision,
}

impl<T: Task> TrainState<T> {
    /// All zero, to be filled by [`initialise`](Self::initialise), [`start_from`](Self::start_from) or a checkpoint.
    ///
    /// # Errors
    /// [`TrainerError::Model`] or [`TrainerError::Torch`], out of memory mostly.
    pub fn zeros(
        config: &T::Config,
        device: Device,
        precision: Precision,
        world: Option<World>,
    ) -> Result<Self, TrainerError> {
        let specs = T::specs(config);
        let distributed = &config.train().distributed;
        let (parts, part) = match &world {
            Some(world) if distributed.split != Split::None => (world.size(), world.rank()),
            _ => (1, 0),
        };
        let parameters = match (&world, distributed.split) {
            (Some(world), Split::Parameters) => {
                Parameters::sharded(&specs, device, world, &T::parameter_units(config)?)?
            }
            (Some(_), Split::Gradients) => Parameters::zeros_in_parts(&specs, device, parts, false)?,
            _ => Parameters::zeros_in_parts(&specs, device, parts, true)?,
        };
        let length = if parts == 1 { parameters.length() } else { parameters.padded_length() / parts as i64 };
        let start = length * part as i64;
        let slice = parameters.part(start, length)?;
        let optimizer = AdamW::of_slice(optimizer_config(config.train()), &slice, start);
        let optimizer = match config.train().weight_decay_on {
            WeightDecayOn::All => optimizer,
            WeightDecayOn::Matrices => optimizer.decaying_matrices_alone(&parameters),
        };
        let averages = PowerAverages::zeros(config.ema(), &slice)?;
        let mut network = T::build(config, parameters, precision)?;
        if let Some(world) = world.as_ref().filter(|_| distributed.sequence_parallel > 1) {
            T::split_sequence(&mut network, &world.part(distributed.sequence_parallel)?)?;
        }
        let team = world.map(|world| Team::new(world, T::parameters(&network), distributed)).transpose()?;
        Ok(Self { network, optimizer, images_seen: 0, averages, team, precision })
    }

    /// Whether this process writes and speaks, for all if there are others.
    pub fn leads(&self) -> bool {
        self.team.as_ref().is_none_or(|team| team.world().leads())
    }

    /// The others, if each process has but a slice of the optimiser's state.
    pub fn splitting_team(&self) -> Option<&Team> {
        self.team.as_ref().filter(|team| team.splits_state())
    }

    /// What takes in the gradient of a step over `images` images of all processes.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn gradient_sum(&self, images: usize) -> Result<GradientSum<'_>, TrainerError> {
        GradientSum::zero(T::parameters(&self.network), self.team.as_ref(), images)
    }

    /// A step of the optimiser with the gradient that was added up. Returns its norm, 0-dim, on the device.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn step(&mut self, lr: f64) -> Result<Tensor, TrainerError> {
        let parameters = T::parameters(&self.network);
        match &self.team {
            Some(team) => team.step(&mut self.optimizer, parameters, lr),
            None => Ok(self.optimizer.step(parameters, lr)?),
        }
    }

    /// The network with the moving average of the weights. All processes must call it, if each has a slice.
    ///
    /// # Errors
    /// [`TrainerError::Torch`], [`TrainerError::Model`].
    pub fn average(&self, config: &T::Config) -> Result<T::Network, TrainerError> {
        let parameters = T::parameters(&self.network);
        let values = self.whole(&self.optimizer.ema)?;
        T::build(config, Parameters::from_flat(parameters.specs(), values)?, self.precision)
    }

    /// The averages under power-function profiles. All processes must call it, if each has a slice.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn whole_averages(&self) -> Result<PowerAverages, TrainerError> {
        self.averages.map(|slice| self.whole(slice))
    }

    fn whole(&self, slice: &Tensor) -> Result<Tensor, TrainerError> {
        match self.splitting_team() {
            Some(team) => team.whole(T::parameters(&self.network), slice),
            None => Ok(slice.shallow_clone()),
        }
    }

    /// The elements of the flat buffer whose moments and averages this process has.
    fn own_values(&self) -> Result<Tensor, TrainerError> {
        let (start, length) = (self.optimizer.start(), self.optimizer.ema.size()[0]);
        Ok(T::parameters(&self.network).part(start, length)?)
    }

    /// Fresh weights, drawn from the configuration's seed.
    ///
    /// # Errors
    /// [`TrainerError::Model`].
    pub fn initialise(&mut self, config: &T::Config) -> Result<(), TrainerError> {
        self.write_weights(config, |network| T::initialise(network, config.train().seed))
    }

    /// The weights of a file, which may be those of another image size; the moving average starts from them, too.
    ///
    /// # Errors
    /// [`TrainerError::Weights`].
    pub fn start_from(&mut self, path: &Path, config: &T::Config) -> Result<(), TrainerError> {
        self.write_weights(config, |network| T::start_from(network, path, config))
    }

    /// Lets `write` write the network's weights; where each process has but a slice of them, those of a whole network on the CPU.
    fn write_weights(
        &mut self,
        config: &T::Config,
        write: impl FnOnce(&T::Network) -> Result<(), TrainerError>,
    ) -> Result<(), TrainerError> {
        match self.team.as_ref().filter(|team| team.splits_parameters()) {
            None => write(&self.network)?,
            Some(team) => {
                let parameters = Parameters::frozen(&T::specs(config), Device::Cpu)?;
                let network = T::build(config, parameters, Precision::F32)?;
                write(&network)?;
                let (whole, own, start) =
                    (T::parameters(&network).values(), self.own_values()?, self.optimizer.start());
                // The last slices may go on behind the end.
                let length = (whole.size()[0] - start).clamp(0, own.size()[0]);
                let slice = whole.f_narrow(0, start.min(whole.size()[0]), length)?;
                tch::no_grad(|| own.f_narrow(0, 0, length)?.f_copy_(&slice))?;
                T::parameters(&self.network).share_parts(team.world(), &own)?;
            }
        }
        self.restart_average()
    }

    /// Lets the averages under power-function profiles take in the weights that the optimiser's last step left.
    ///
    /// # Errors
    /// [`TrainerError::Libtorch`].
    pub fn update_averages(&mut self) -> Result<(), TrainerError> {
        if self.averages.sigma_rel().is_empty() {
            return Ok(());
        }
        let values = self.own_values()?;
        self.averages.update(&values, self.optimizer.step)
    }

    fn restart_average(&mut self) -> Result<(), TrainerError> {
        let values = self.own_values()?;
        Ok(self.optimizer.ema.f_copy_(&values)?)
    }

    /// What the optimiser keeps of each element, by name, as flat views: all of it, or this process's slice, which begins at
    /// `optimizer.start()`; with the weights themselves.
    ///
    /// # Errors
    /// [`TrainerError::Libtorch`].
    pub fn flat_tensors(&self) -> Result<Vec<(String, Tensor)>, TrainerError> {
        let mut tensors = vec![
            ("parameters".to_owned(), self.own_values()?),
            ("first_moment".to_owned(), self.optimizer.first_moment.shallow_clone()),
            ("second_moment".to_owned(), self.optimizer.second_moment.shallow_clone()),
            ("ema".to_owned(), self.optimizer.ema.shallow_clone()),
        ];
        tensors.extend(self.averages.flat_tensors());
        Ok(tensors)
    }

    /// Gives all processes the weights of which each has read its slice.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn gather_weights(&self) -> Result<(), TrainerError> {
        if let Some(team) = self.splitting_team() {
            T::parameters(&self.network).share_parts(team.world(), &self.own_values()?)?;
        }
        Ok(())
    }

    /// Every tensor of a state that is not split by name, as views: `parameters.…`, `first_moment.…`, `second_moment.…`, `ema.…`, and
    /// `ema_0.05.…` for each average under a power-function profile.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainerError> {
        Ok(named(T::parameters(&self.network).specs(), &self.flat_tensors()?)?)
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
        ema_warmup: train.ema_warmup,
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

    use super::super::DiffusionTask;
    use super::*;

    fn train(overrides: &[String]) -> Train {
        let text = include_str!("../../../../configs/smoke.toml");
        crate::config::Config::parse(text, "smoke.toml", overrides).unwrap().train
    }

    #[test]
    fn weight_decay_reaches_what_the_configuration_says() {
        let text = include_str!("../../../../configs/smoke.toml");
        for on in ["all", "matrices"] {
            let overrides = ["train.weight_decay=0.5".to_owned(), format!("train.weight_decay_on={on:?}")];
            let config = crate::config::Config::parse(text, "smoke.toml", &overrides).unwrap();
            let mut state = TrainState::<DiffusionTask>::zeros(&config, Device::Cpu, Precision::F32, None).unwrap();
            let parameters = state.network.parameters();
            let _ = tch::no_grad(|| parameters.values().fill_(1.0));
            let _ = state.step(0.1).unwrap(); // without gradients
            for (spec, tensor) in state.network.parameters().iter() {
                let expected = if on == "all" || spec.matrix { 0.95 } else { 1.0 };
                let error = (tensor.detach() - expected).abs().max().double_value(&[]);
                assert!(error < 1e-6, "{on}: {}", spec.name);
            }
        }
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
