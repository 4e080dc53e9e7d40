//! `dim-trainer train-autoencoder`: from images to the first stage of a latent diffusion model.

use super::sitting;
use crate::cli::TrainArgs;
use crate::error::TrainerError;
use crate::train::AutoencoderTask;

pub(super) fn run(arguments: TrainArgs) -> Result<u8, TrainerError> {
    sitting::run("train-autoencoder", &arguments, |config, device, _| AutoencoderTask::open(config, device))
}
