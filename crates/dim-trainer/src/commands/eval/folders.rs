//! A folder of images against a reference, or into a file.

use std::path::Path;
use std::time::Instant;

use dim_eval::{PatchGrid, frechet_distance};
use serde_json::json;

use super::super::together::Together;
use super::{choice, settings, usage};
use crate::cli::EvalArgs;
use crate::config::Distributed;
use crate::error::TrainerError;
use crate::evaluation::{Folders, Reference, Scores, Set, folder, measured, scores};
use crate::files;
use crate::format::thousands;

pub(super) fn run(arguments: &EvalArgs, path: &Path) -> Result<u8, TrainerError> {
    let grid = match arguments.patch {
        Some(size) => Some(PatchGrid::new(size.into(), arguments.stride.unwrap_or(size).into()).map_err(usage)?),
        None => None,
    };
    let settings = settings(arguments);
    // Before anything is computed, for what is wrong with a path to be told at once.
    let files = folder(path)?;
    let choice = choice(arguments);
    let together = Together::start("eval", arguments, (arguments.compute, None), &Distributed::default())?;
    let compute = together.compute;
    let reference = arguments.reference.as_deref().map(|path| Reference::open(path, compute.device)).transpose()?;
    if let (Some(_), Some(Reference::Statistics(_))) = (grid, &reference) {
        return Err(TrainerError::Usage(
            "--patch: statistics have no patches; name a folder as `--reference`".to_owned(),
        ));
    }
    if let (Some(path), true) = (&arguments.save_statistics, together.leads()) {
        files::check_writable(path)?;
    }
    choice.weights()?;
    let extractor = choice.load(compute.device)?;
    let folders = Folders {
        extractor: &extractor,
        device: compute.device,
        batch_size: arguments.batch_size.into(),
        patches: grid,
        world: together.world.as_ref(),
    };
    let needs = if reference.is_some() { settings.needs() } else { settings.needs_of_reference() };
    let started = Instant::now();
    let images = measured(&folders, &files, path, needs)?;
    let images_per_s = images.whole.count() as f64 / started.elapsed().as_secs_f64();
    let leads = together.leads();
    if let (Some(path), true) = (&arguments.save_statistics, leads) {
        images.whole.save(path)?;
    }
    let reference =
        reference.map(|reference| reference.measure(&folders, settings.needs_of_reference())).transpose()?;
    together.leave()?;
    if !leads {
        return Ok(0); // the leader has all that is known
    }
    let Some(reference) = reference else {
        let saved = arguments.save_statistics.as_deref().unwrap_or(path).display().to_string();
        if arguments.json {
            let features = extractor.network.name();
            let count = images.whole.count();
            println!(
                "{}",
                json!({ "statistics": saved, "images": count, "features": features, "images_per_s": images_per_s })
            );
        } else {
            println!("{saved}");
        }
        return Ok(0);
    };
    let (found, notes) = scores(&images.whole, &reference.whole, &settings, compute.device)?;
    let patches = match (&images.patches, &reference.patches) {
        (Some(one), Some(other)) => Some((one, other, frechet_distance(&one.gaussian()?, &other.gaussian()?)?)),
        _ => None,
    };
    if arguments.json {
        let mut report = json!(found);
        report["features"] = json!(extractor.network.name());
        report["origin"] = json!(images.whole.origin);
        report["images"] = json!({ "path": path, "count": images.whole.count(), "images_per_s": images_per_s });
        let count = Some(reference.whole.count()).filter(|&count| count > 0);
        report["reference"] = json!({ "path": arguments.reference, "count": count });
        report["notes"] = json!(notes);
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
        print(&found, &images.whole, &reference.whole);
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
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(0)
}

fn print(found: &Scores, images: &Set, reference: &Set) {
    let origin = &images.origin;
    println!("{} features ({}), {}", origin.extractor, origin.preprocessing, counts(images, reference, "images"));
    for (name, value) in found.named(&origin.extractor) {
        println!("  {name}: {value:.4}");
    }
}

fn counts(images: &Set, reference: &Set, what: &str) -> String {
    let against = match reference.count() {
        0 => "a reference that does not say how many".to_owned(),
        count => thousands(count),
    };
    format!("{} {what} against {against}", thousands(images.count()))
}
