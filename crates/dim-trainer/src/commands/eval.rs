//! `dim-trainer eval`: how far two folders of images are apart.

use std::path::Path;

use dim_data::sources::ImageFiles;
use dim_eval::features::{EfficientNetLite0, FeatureExtractor};
use dim_eval::{PatchGrid, Statistics, frechet_distance};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::{EvalArgs, FeaturesName};
use crate::device::Compute;
use crate::error::TrainerError;
use crate::evaluation::{Measure, Measured};
use crate::format::thousands;

pub(super) fn run(arguments: EvalArgs) -> Result<u8, TrainerError> {
    let grid = match arguments.patch {
        Some(size) => Some(PatchGrid::new(size.into(), arguments.stride.unwrap_or(size).into()).map_err(usage)?),
        None => None,
    };
    // Before anything is computed, for what is wrong with a path to be told at once.
    let (images, reference) = (ImageFiles::open(&arguments.images)?, ImageFiles::open(&arguments.reference)?);
    for (files, path) in [(&images, &arguments.images), (&reference, &arguments.reference)] {
        if files.paths().len() < 2 {
            return Err(TrainerError::Usage(format!("{}: one image has no covariance; give more", path.display())));
        }
    }
    let compute = Compute::start(arguments.compute, None)?;
    let extractor = match arguments.features {
        FeaturesName::EfficientnetLite0 => load(&arguments.weights, &compute)?,
    };
    let measure = Measure {
        extractor: &extractor,
        device: compute.device,
        patches: grid,
        batch_size: arguments.batch_size.into(),
    };
    let images = measured(&measure, &images, &arguments.images)?;
    let reference = measured(&measure, &reference, &arguments.reference)?;
    let whole = distance(&images.whole, &reference.whole)?;
    let patches = match (&images.patches, &reference.patches) {
        (Some(one), Some(other)) => Some((one, other, distance(one, other)?)),
        _ => None,
    };

    if arguments.json {
        let mut report = json!({
            "features": extractor.name(),
            "images": { "path": arguments.images, "count": images.whole.count() },
            "reference": { "path": arguments.reference, "count": reference.whole.count() },
            "frechet_distance": whole,
        });
        if let (Some((one, other, value)), Some(grid)) = (patches, grid) {
            report["patches"] = json!({
                "size": grid.size(),
                "stride": grid.stride(),
                "images": one.count(),
                "reference": other.count(),
                "frechet_distance": value,
            });
        }
        println!("{report}");
    } else {
        println!(
            "Fréchet distance of {} features, {}",
            extractor.name(),
            counts(&images.whole, &reference.whole, "images")
        );
        println!("  {whole:.4}");
        if let (Some((one, other, value)), Some(grid)) = (patches, grid) {
            let size = grid.size();
            println!(
                "of patches of {size} x {size} pixels, {} apart, {}",
                grid.stride(),
                counts(one, other, "patches")
            );
            println!("  {value:.4}");
        }
    }
    for (statistics, path) in [(&images.whole, &arguments.images), (&reference.whole, &arguments.reference)] {
        if statistics.is_rank_deficient() {
            eprintln!(
                "note: {} has {} images, no more than there are features ({}): the distance comes out too large; compare only \
                 distances of as many images",
                path.display(),
                thousands(statistics.count()),
                thousands(statistics.dimension() as u64)
            );
        }
    }
    Ok(0)
}

fn load(weights: &Path, compute: &Compute) -> Result<EfficientNetLite0, TrainerError> {
    if !weights.exists() {
        return Err(TrainerError::Usage(format!(
            "{}: the weights of efficientnet-lite0 are not there; `cargo xtask setup` installs them, `--weights FILE` names them elsewhere",
            weights.display()
        )));
    }
    Ok(EfficientNetLite0::load(weights, compute.device)?)
}

fn measured(measure: &Measure<'_>, files: &ImageFiles, path: &Path) -> Result<Measured, TrainerError> {
    let bar = ProgressBar::new(files.paths().len() as u64).with_message(path.display().to_string());
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}  {eta} left") {
        bar.set_style(style);
    }
    let measured = measure.folder(files, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    measured
}

fn distance(images: &Statistics, reference: &Statistics) -> Result<f64, TrainerError> {
    Ok(frechet_distance(&images.gaussian()?, &reference.gaussian()?)?)
}

fn counts(images: &Statistics, reference: &Statistics, what: &str) -> String {
    format!("{} {what} against {}", thousands(images.count()), thousands(reference.count()))
}

fn usage(error: dim_eval::EvalError) -> TrainerError {
    TrainerError::Usage(error.to_string())
}
