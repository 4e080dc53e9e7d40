//! `dim-trainer eval`: how good images are, in a folder or as a network draws them.

mod folders;
mod networks;
mod report;

use dim_eval::EvalError;

use crate::cli::EvalArgs;
use crate::error::TrainerError;
use crate::evaluation::{ExtractorChoice, Settings};

pub(super) fn run(arguments: EvalArgs) -> Result<u8, TrainerError> {
    match &arguments.images {
        Some(images) => folders::run(&arguments, images),
        None => networks::run(&arguments),
    }
}

/// Which features.
fn choice(arguments: &EvalArgs) -> ExtractorChoice {
    ExtractorChoice {
        features: arguments.features,
        weights: arguments.weights.clone(),
        preprocessing: arguments.preprocessing,
        tf32: arguments.tf32,
    }
}

/// How the metrics are computed.
fn settings(arguments: &EvalArgs) -> Settings {
    let published = Settings::published(arguments.metrics.clone());
    let neighbours = |published: usize| arguments.neighbours.map_or(published, usize::from);
    Settings {
        score_parts: arguments.score_parts.into(),
        kid_subsets: arguments.kid_subsets.into(),
        kid_subset_size: arguments.kid_subset_size as usize,
        neighbours: neighbours(published.neighbours),
        density_neighbours: neighbours(published.density_neighbours),
        kept_images: arguments.kept_images as usize,
        ..published
    }
}

fn usage(error: EvalError) -> TrainerError {
    TrainerError::Usage(error.to_string())
}
