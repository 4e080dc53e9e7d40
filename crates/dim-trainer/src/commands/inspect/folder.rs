//! Folders: a run, an autoencoder of diffusers, samples.

use std::path::Path;

use dim_model::weights::DiffusersFolder;
use serde_json::json;

use super::report::Report;
use super::{network, picture, weights};
use crate::config::Config;
use crate::error::TrainerError;
use crate::files;
use crate::format::{counted, thousands};
use crate::png_file;
use crate::run_folder::RunFolder;
use crate::train::checkpoint;

/// The network of a run, and its checkpoints, each of which is read and checked.
pub(super) fn run(run: &RunFolder) -> Result<Report, TrainerError> {
    let mut report = Report::new("run", run.path());
    let config = Config::load(&run.config(), &[])?;
    network::describe(&mut report, &config);
    report.line("\ncheckpoints");
    let checkpoints = checkpoint::list(run)?;
    let mut found = Vec::new();
    for path in &checkpoints {
        match checkpoint::about::<Config>(path) {
            Ok(about) => {
                report.line(format_args!(
                    "  {}: step {}, {} of {} images, good",
                    path.display(),
                    thousands(about.step),
                    thousands(about.images_seen),
                    thousands(config.train.images)
                ));
                found.push(json!({"path": path, "step": about.step, "images_seen": about.images_seen, "good": true}));
            }
            Err(error) => {
                report.line(format_args!("  {error}"));
                found.push(json!({"path": path, "good": false, "problem": error.to_string()}));
            }
        }
    }
    if checkpoints.is_empty() {
        report.line("  none");
    }
    report.field("checkpoints", found);
    Ok(report)
}

/// The autoencoder in a folder of diffusers.
pub(super) fn diffusers(path: &Path) -> Result<Report, TrainerError> {
    let folder = DiffusersFolder::open(path)?;
    let mut report = weights::report(&folder.weights)?;
    weights::autoencoder(&mut report, Some(folder.sizes));
    Ok(report)
}

/// Samples in a folder: how many there are, and what the first was drawn with.
pub(super) fn pictures(path: &Path) -> Result<Report, TrainerError> {
    let pictures: Vec<_> = files::list(path)?.into_iter().filter(|file| png_file::is_png(file)).collect();
    let Some(first) = pictures.first() else {
        return Err(TrainerError::Unsupported(format!(
            "{} is nothing that this program knows: expected the folder of a run (with config.toml), of samples (PNG), or of \
             diffusers' AutoencoderKL (with config.json)",
            path.display()
        )));
    };
    let mut report = Report::new("pictures", path);
    report.line(format_args!("{}: {}; the first:", path.display(), counted(pictures.len(), "picture")));
    report.field("pictures", pictures.len());
    picture::describe(&mut report, first)?;
    Ok(report)
}
