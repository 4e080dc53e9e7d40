//! What a run trains. The loop, checkpoints, logs and resuming are the same for all.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use dim_data::Source;
use dim_model::{ModelError, Precision};
use dim_torch::distributed::World;
use dim_torch::{ParameterSpec, Parameters};
use tch::{Device, Tensor};

use super::checkpoint::DataSummary;
use super::log::Measurement;
use super::session::DeviceBatch;
use super::team::GradientSum;
use crate::config::RunConfig;
use crate::error::TrainerError;
use crate::grid::Picture;

/// A network, its loss, and what it shows and leaves. All randomness must be a function of the configuration's seed and of `images_seen`.
pub trait Task: Sized {
    /// The configuration of such a run.
    type Config: RunConfig;
    /// What is trained.
    type Network;

    /// Name and shape of everything that is trained.
    fn specs(config: &Self::Config) -> Vec<ParameterSpec>;

    /// The network over `parameters`, for training or, without gradients, for the moving average.
    ///
    /// # Errors
    /// A configuration that does not work.
    fn build(
        config: &Self::Config,
        parameters: Parameters,
        precision: Precision,
    ) -> Result<Self::Network, TrainerError>;

    /// The units of a network that runs with slices of its parameters, as [`Parameters::sharded`] takes them.
    ///
    /// # Errors
    /// [`TrainerError::Unsupported`] for one that cannot.
    fn parameter_units(_config: &Self::Config) -> Result<Vec<String>, TrainerError> {
        Err(TrainerError::Unsupported("this network does not run with slices of its parameters".to_owned()))
    }

    /// From now on splits the tokens of every image over all processes of `world`, which go through the network and back together.
    ///
    /// # Errors
    /// [`TrainerError::Model`] for a network that cannot.
    fn split_sequence(_network: &mut Self::Network, _world: &World) -> Result<(), TrainerError> {
        Err(ModelError::Sequence.into())
    }

    /// The network's parameters.
    fn parameters(network: &Self::Network) -> &Parameters;

    /// Draws fresh weights.
    ///
    /// # Errors
    /// An error of libtorch.
    fn initialise(network: &Self::Network, seed: u64) -> Result<(), TrainerError>;

    /// Reads weights to start from.
    ///
    /// # Errors
    /// [`TrainerError::Weights`].
    fn start_from(network: &Self::Network, path: &Path, config: &Self::Config) -> Result<(), TrainerError>;

    /// Where its examples come from.
    fn source(&self) -> &Arc<dyn Source>;

    /// Side of what the loader is to give: pixels, or places of a latent.
    fn loaded_size(&self) -> usize;

    /// Further such sides, of which every batch has one.
    fn other_loaded_sizes(&self, _config: &Self::Config) -> Vec<usize> {
        Vec::new()
    }

    /// What the network sees of a `batch` on the device, `[image, channel, row, column]`, that begins after `images_seen` images.
    ///
    /// # Errors
    /// Out of memory, mostly.
    fn inputs(&self, batch: Tensor, _images_seen: u64) -> Result<Tensor, TrainerError> {
        Ok(batch)
    }

    /// Whether there is anything to make a picture of.
    fn has_pictures(&self) -> bool {
        true
    }

    /// Adds the gradient of the batch's share in the mean loss of a step to `sum`. Returns that share, 0-dim, on the device.
    ///
    /// # Errors
    /// Out of memory, mostly.
    fn gradients(
        &self,
        network: &Self::Network,
        batch: &DeviceBatch,
        sum: &GradientSum<'_>,
    ) -> Result<Tensor, TrainerError>;

    /// A picture of what `average`, that of the weights, can do.
    ///
    /// # Errors
    /// Out of memory, mostly; that `progress` said to stop.
    fn picture(
        &self,
        average: &Self::Network,
        config: &Self::Config,
        data: &DataSummary,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Picture, TrainerError>;

    /// Makes ready what the process that leads alone does: evaluation.
    ///
    /// # Errors
    /// What is wrong with `[evaluation]`, before anything is trained.
    fn prepare_to_lead(&mut self, _config: &Self::Config, _device: Device) -> Result<(), TrainerError> {
        Ok(())
    }

    /// How good the samples of `average`, that of the weights, are, where `[evaluation]` asks for it, and what there is to say against the numbers.
    ///
    /// # Errors
    /// Out of memory, mostly; that `progress` said to stop.
    fn evaluate(
        &self,
        _average: &Self::Network,
        _config: &Self::Config,
        _data: &DataSummary,
        _progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(Vec<Measurement>, Vec<String>), TrainerError> {
        Ok((Vec::new(), Vec::new()))
    }

    /// Saves the moving average of the weights after so many images for use. The same state gives the same bytes.
    ///
    /// # Errors
    /// [`TrainerError::Weights`], a full disk mostly.
    fn save_snapshot(
        &self,
        path: &Path,
        average: (&Self::Network, u64),
        config: &Self::Config,
        data: &DataSummary,
    ) -> Result<(), TrainerError>;
}
