//! `dim-trainer ema`: weights averaged under any profile, made of the averages that a run stored.

use std::collections::BTreeMap;
use std::path::Path;

use dim_model::BackboneConfig;
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

use crate::cli::EmaArgs;
use crate::ema::snapshot::{self as stored, About};
use crate::ema::{Combination, PowerProfile, Stored, combination};
use crate::error::TrainerError;
use crate::format::thousands;
use crate::run_folder::RunFolder;
use crate::snapshot;

/// Above this error of the profile the user is warned; those of the paper's figures are below it.
const POOR: f64 = 0.05;

pub(super) fn run(arguments: EmaArgs) -> Result<u8, TrainerError> {
    let width = arguments.sigma_rel;
    let Average { parameters, last, snapshots, error } = average(&arguments.run, arguments.at, width)?;
    let metadata = BTreeMap::from([
        ("images_seen".to_owned(), last.images_seen.to_string()),
        ("weights".to_owned(), format!("ema, sigma_rel {width}")),
        ("profile_error".to_owned(), error.to_string()),
    ]);
    snapshot::save_weights(&arguments.out, &parameters, &last.config, &last.classes, metadata)?;
    eprintln!(
        "sigma_rel {width} after {} images, of {} snapshots; the profile is met to {:.2} %",
        thousands(last.images_seen),
        snapshots,
        100.0 * error
    );
    if error > POOR {
        eprintln!(
            "warning: these snapshots do not give this profile; a width nearer to {:?}, or more snapshots, would do better",
            last.sigma_rel
        );
    }
    if arguments.json {
        let result = serde_json::json!({
            "written": arguments.out,
            "sigma_rel": width,
            "images_seen": last.images_seen,
            "snapshots": snapshots,
            "profile_error": error,
        });
        println!("{result}");
    } else {
        println!("{}", arguments.out.display());
    }
    Ok(0)
}

/// Weights averaged under a profile.
pub(super) struct Average {
    pub(super) parameters: Parameters,
    /// The last of the snapshots that they were made of.
    pub(super) last: About,
    /// How many those are.
    pub(super) snapshots: usize,
    /// How far the profile is from the one asked for.
    pub(super) error: f64,
}

/// Averages the weights of a run under the profile of this width, after `at` images or at its newest snapshot. On the CPU.
pub(super) fn average(run: &Path, at: Option<u64>, width: f64) -> Result<Average, TrainerError> {
    let profile = PowerProfile::from_sigma_rel(width).ok_or_else(|| {
        TrainerError::Usage(format!(
            "--sigma-rel {width}: expected a width above 0 and at most {:.4}, under which all steps count the same",
            PowerProfile::max_sigma_rel()
        ))
    })?;
    let mut abouts = snapshots(run, at)?;
    let known = profiles(&abouts)?;
    let Combination { factors, error } = combination(&known, profile, abouts[abouts.len() - 1].updates)?;

    // In f64, so that factors of both signs cost no digits.
    let specs = abouts[0].config.model.parameter_specs();
    let shapes = Parameters::frozen(&specs, Device::Cpu)?;
    let mut sum = Tensor::f_zeros(shapes.values().size(), (Kind::Double, Device::Cpu))?;
    let mut factors = factors.into_iter();
    for about in &abouts {
        for average in stored::load(&about.path, &shapes, &about.sigma_rel)? {
            sum += average.f_to_kind(Kind::Double)? * factors.next().unwrap_or(0.0);
        }
    }
    let parameters = Parameters::from_flat(&specs, sum.f_to_kind(Kind::Float)?)?;
    let snapshots = abouts.len();
    let last = abouts.swap_remove(snapshots - 1);
    Ok(Average { parameters, last, snapshots, error })
}

/// What the run stored until the moment asked for; at least one.
fn snapshots(run: &Path, at: Option<u64>) -> Result<Vec<About>, TrainerError> {
    let run = RunFolder::new(run);
    let mut abouts = Vec::new();
    for path in stored::list(&run, at.unwrap_or(u64::MAX))? {
        abouts.push(stored::about(&path)?);
    }
    match (abouts.last(), at) {
        (None, None) => Err(TrainerError::Usage(format!(
            "{} holds no averages; a run stores them if its configuration has the section [ema]",
            run.ema_snapshots().display()
        ))),
        (last, Some(at)) if last.is_none_or(|last| last.images_seen != at) => {
            let earlier = last.map_or("none is earlier".to_owned(), |last| {
                format!("the one before is after {} images", last.images_seen)
            });
            Err(TrainerError::Usage(format!(
                "--at {at}: {} holds no averages after so many images; {earlier}",
                run.ema_snapshots().display()
            )))
        }
        _ => Ok(abouts),
    }
}

/// The averages in the snapshots, in the order of their files.
fn profiles(abouts: &[About]) -> Result<Vec<Stored>, TrainerError> {
    let mut known = Vec::new();
    for about in abouts {
        for &width in &about.sigma_rel {
            let profile = PowerProfile::from_sigma_rel(width).ok_or_else(|| TrainerError::NotACheckpoint {
                path: about.path.clone(),
                reason: format!("no profile is {width} wide"),
                older: None,
            })?;
            known.push(Stored { profile, updates: about.updates });
        }
    }
    Ok(known)
}
