//! `dim-trainer train-autoencoder`: from images to the first stage of a latent diffusion model.

use std::sync::Arc;

use dim_data::ImageSource;

use super::sitting;
use crate::cli::TrainArgs;
use crate::config::AutoencoderRun;
use crate::error::TrainerError;
use crate::train::AutoencoderTask;

pub(super) fn run(arguments: TrainArgs) -> Result<u8, TrainerError> {
    sitting::run("train-autoencoder", &arguments, open_data, |config, source, device| {
        AutoencoderTask::new(config, Arc::clone(source), device)
    })
}

fn open_data(config: &AutoencoderRun) -> Result<Arc<dyn ImageSource>, TrainerError> {
    let source = dim_data::open(&config.data, config.image_size)?;
    for note in source.notes() {
        eprintln!("note: {note}");
    }
    Ok(source)
}
