//! `dim-trainer train`: from a configuration to a trained network, in one sitting or several.

use std::sync::Arc;

use dim_data::ImageSource;
use dim_model::BackboneConfig;

use super::sitting;
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::error::TrainerError;
use crate::train::DiffusionTask;

pub(super) fn run(arguments: TrainArgs) -> Result<u8, TrainerError> {
    sitting::run("train", &arguments, open_data, |config, _, _| DiffusionTask::new(config))
}

fn open_data(config: &Config) -> Result<Arc<dyn ImageSource>, TrainerError> {
    if config.autoencoder.is_some() {
        let (size, data) = (config.model.image_size(), config.data_size());
        return Err(TrainerError::Unsupported(format!(
            "this configuration trains on {size} x {size} latents of {data} x {data} images, and turning pixels into latents is not available yet; \
             without the section [autoencoder] the network trains on images of {size} x {size} pixels"
        )));
    }
    let source = dim_data::open(&config.data, config.model.image_size())?;
    for note in source.notes() {
        eprintln!("note: {note}");
    }
    let (found, known) = (source.classes().len(), config.model.classes());
    if found > known && !config.unconditional() {
        let problem =
            format!("`model.classes` must be at least {found}, the number of classes of the data, got {known}");
        return Err(TrainerError::ConfigValues { origin: "with these data".to_owned(), problems: vec![problem] });
    }
    Ok(source)
}
