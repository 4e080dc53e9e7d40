//! Training a denoising network, from noise to images.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use dim_data::Source;
use dim_diffusion::objective::Objective;
use dim_model::weights::WeightFile;
use dim_model::{BackboneConfig, Precision, Recompute};
use dim_torch::distributed::World;
use dim_torch::{ParameterSpec, Parameters};
use tch::{Device, Tensor};

use super::checkpoint::DataSummary;
use super::data::Data;
use super::evaluation::Evaluator;
use super::gradients::Loss;
use super::initial_weights;
use super::log::Measurement;
use super::session::DeviceBatch;
use super::task::Task;
use super::team::GradientSum;
use crate::config::{Config, differences};
use crate::denoiser::Network;
use crate::error::TrainerError;
use crate::grid::{Picture, grid};
use crate::sampling::{self, Request, build_schedule};
use crate::snapshot;

/// A denoising network's data and objective.
pub struct DiffusionTask {
    loss: Loss,
    data: Data,
    /// Where this process leads, and is asked to evaluate.
    evaluator: Option<Evaluator>,
}

impl DiffusionTask {
    /// The objective that a configuration describes, and the data that it names.
    ///
    /// # Errors
    /// [`TrainerError::Diffusion`]; [`TrainerError::Data`]; [`TrainerError::ConfigValues`] with everything that does not fit;
    /// [`TrainerError::OtherAutoencoder`]; [`TrainerError::Weights`].
    pub fn open(config: &Config, device: Device, precision: Precision) -> Result<Self, TrainerError> {
        let null_class = config.model.null_class().and_then(|class| i64::try_from(class).ok());
        let loss = Loss {
            objective: Objective::new(config.diffusion.objective(), null_class, config.train.seed)?,
            schedule: build_schedule(config.diffusion.schedule, config.diffusion.time_shift)?,
            micro_batch_size: config.micro_batch_size(),
        };
        let data = Data::open(config, device, precision)?;
        if config.evaluation.is_some() && !data.has_pictures() {
            return Err(TrainerError::Usage(
                "[evaluation]: the network draws latents; give `autoencoder.weights`, which make images of them"
                    .to_owned(),
            ));
        }
        Ok(Self { loss, data, evaluator: None })
    }
}

impl Task for DiffusionTask {
    type Config = Config;
    type Network = Network;

    fn specs(config: &Config) -> Vec<ParameterSpec> {
        config.model.parameter_specs()
    }

    fn build(config: &Config, parameters: Parameters, precision: Precision) -> Result<Network, TrainerError> {
        let trained = parameters.are_trained();
        let network = Network::new(config.model.clone(), parameters, precision)?;
        let mut network = network.predicting(config.diffusion.prediction);
        if trained {
            let (blocks, scan) = (config.train.recompute_blocks, config.train.recompute_scan);
            network.set_recompute(Recompute { blocks, scan });
        }
        Ok(network)
    }

    fn parameter_units(config: &Config) -> Result<Vec<String>, TrainerError> {
        Ok(config.model.parameter_units())
    }

    fn split_sequence(network: &mut Network, world: &World) -> Result<(), TrainerError> {
        Ok(network.split_sequence(world)?)
    }

    fn parameters(network: &Network) -> &Parameters {
        network.parameters()
    }

    fn initialise(network: &Network, seed: u64) -> Result<(), TrainerError> {
        Ok(network.initialise(seed)?)
    }

    /// The weights may be those of another image size.
    fn start_from(network: &Network, path: &Path, config: &Config) -> Result<(), TrainerError> {
        note_other_diffusion(path, config)?;
        initial_weights::load(path, network, config.train.seed)
    }

    fn source(&self) -> &Arc<dyn Source> {
        self.data.source()
    }

    fn loaded_size(&self) -> usize {
        self.data.size()
    }

    fn other_loaded_sizes(&self, config: &Config) -> Vec<usize> {
        let sides = config.train.other_image_sizes.iter();
        sides.map(|side| side * self.data.size() / config.model.image_size()).collect()
    }

    fn inputs(&self, batch: Tensor, images_seen: u64) -> Result<Tensor, TrainerError> {
        self.data.inputs(batch, images_seen)
    }

    /// Latents that nothing can decode are not drawn.
    fn has_pictures(&self) -> bool {
        self.data.has_pictures()
    }

    fn gradients(&self, network: &Network, batch: &DeviceBatch, sum: &GradientSum<'_>) -> Result<Tensor, TrainerError> {
        self.loss.gradients(network, &batch.images, batch.class.as_ref(), batch.first, sum)
    }

    fn prepare_to_lead(&mut self, config: &Config, device: Device) -> Result<(), TrainerError> {
        self.evaluator = config.evaluation.as_ref().map(|section| Evaluator::open(section, device)).transpose()?;
        Ok(())
    }

    /// A grid of samples, from the same noise every time.
    fn picture(
        &self,
        average: &Network,
        config: &Config,
        data: &DataSummary,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Picture, TrainerError> {
        let sample = &config.sample;
        let request = Request::plain(config, data.classes.len(), sample.rows * sample.columns);
        grid(&self.data.pictures(sampling::sample(average, &request, progress)?)?, sample.columns)
    }

    fn evaluate(
        &self,
        average: &Network,
        config: &Config,
        data: &DataSummary,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(Vec<Measurement>, Vec<String>), TrainerError> {
        let Some(evaluator) = &self.evaluator else { return Ok((Vec::new(), Vec::new())) };
        let pictures = |samples: Tensor| self.data.pictures(samples);
        evaluator.evaluate(average, config, data.classes.len(), pictures, progress)
    }

    fn save_snapshot(
        &self,
        path: &Path,
        (average, images_seen): (&Network, u64),
        config: &Config,
        data: &DataSummary,
    ) -> Result<(), TrainerError> {
        snapshot::save(path, (average, images_seen), config, &data.classes)
    }
}

/// Says so if the initial weights, as far as they tell, were trained for another prediction or schedule: the first steps will then teach
/// them anew.
fn note_other_diffusion(path: &Path, config: &Config) -> Result<(), TrainerError> {
    let Some(theirs) = snapshot::config_of(&WeightFile::open(path)?)? else { return Ok(()) };
    for difference in differences(&theirs, config)? {
        if ["diffusion.prediction", "diffusion.schedule"].contains(&difference.key.as_str()) {
            eprintln!("note: the initial weights were trained with another setting: {difference}");
        }
    }
    Ok(())
}
