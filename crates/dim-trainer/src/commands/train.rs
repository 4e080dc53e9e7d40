//! `dim-trainer train`: from a configuration to a trained network, in one sitting or several.

use super::sitting;
use crate::cli::TrainArgs;
use crate::error::TrainerError;
use crate::train::DiffusionTask;

pub(super) fn run(arguments: TrainArgs) -> Result<u8, TrainerError> {
    sitting::run("train", &arguments, DiffusionTask::open)
}
