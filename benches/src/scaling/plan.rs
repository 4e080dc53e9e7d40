//! In what order a sweep measures what.

use dim_report::record::{Mode, Role};
use serde::{Deserialize, Serialize};

use super::config::SweepConfig;

/// One point to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which of the sweep's models.
    pub model: usize,
    /// What is timed.
    pub mode: Mode,
    /// Side of the image in pixels.
    pub image_px: u32,
    /// One image, or a full batch.
    pub role: Role,
}

/// Every point, small images first, so that a sweep that is stopped has whole rows; a model's points of one size follow each other
/// because they share a network.
#[must_use]
pub fn plan(config: &SweepConfig) -> Vec<Task> {
    let mut resolutions = config.resolutions.clone();
    resolutions.sort_unstable();
    resolutions.dedup();
    let mut tasks = Vec::new();
    for image_px in resolutions {
        for (index, model) in config.models.iter().enumerate() {
            if model.max_px.is_some_and(|most| image_px > most) {
                continue;
            }
            for &mode in model.modes.as_ref().unwrap_or(&config.modes) {
                let trains = mode == Mode::TrainingStep;
                if trains && model.max_training_px.is_some_and(|most| image_px > most) {
                    continue;
                }
                // A step with one image is no way to train.
                let roles = config.roles.iter().filter(|role| !(trains && **role == Role::Latency));
                tasks.extend(roles.map(|&role| Task { model: index, mode, image_px, role }));
            }
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn points_are_planned_once_and_small_images_first() {
        let text = include_str!("../../../configs/bench/full.toml");
        let config = SweepConfig::parse(text, "full.toml").unwrap();
        let tasks = plan(&config);
        assert!(tasks.windows(2).all(|pair| pair[0].image_px <= pair[1].image_px));
        for (index, task) in tasks.iter().enumerate() {
            assert!(!tasks[..index].contains(task), "{task:?} twice");
            assert!(!(task.mode == Mode::TrainingStep && task.role == Role::Latency), "{task:?}");
        }
    }
}
