//! Going on from a checkpoint: which one, and whether it belongs to this run.

use std::path::{Path, PathBuf};

use super::checkpoint::{self, About, DataSummary};
use super::shards::others_failed;
use super::state::TrainState;
use super::task::Task;
use crate::config::{Difference, Effect, RunConfig, differences};
use crate::device::kind_of;
use crate::ema;
use crate::error::TrainerError;
use crate::format::thousands;
use crate::run_folder::RunFolder;

/// What the run is to go on with.
pub struct Here<'a, C> {
    /// The configuration.
    pub config: &'a C,
    /// The data that were found.
    pub data: &'a DataSummary,
    /// Go on although the checkpoint had other settings.
    pub accept_changes: bool,
}

/// Loads the state from the newest checkpoint; with `older`, from the newest that reads well, setting aside those that do not.
///
/// # Errors
/// What [`checkpoint::load`] says, naming an older checkpoint that is good; [`TrainerError::OtherConfig`];
/// [`TrainerError::NoCheckpoint`].
pub fn resume<T: Task>(
    run: &RunFolder,
    older: bool,
    here: &Here<'_, T::Config>,
    state: &mut TrainState<T>,
) -> Result<(), TrainerError> {
    let device = kind_of(T::parameters(&state.network).device());
    let state_leads = state.leads();
    let mut candidates = checkpoint::list(run)?;
    let mut bad: Vec<PathBuf> = Vec::new();
    while let Some(path) = candidates.pop() {
        let loaded = checkpoint::load(&path, state, |about| accept(about, &path, here, device, state_leads));
        match together(loaded, &path, state) {
            Ok(about) => {
                state.gather_weights()?;
                if !state_leads {
                    return Ok(());
                }
                for path in &bad {
                    let aside = checkpoint::set_aside(path)?;
                    eprintln!("warning: a checkpoint that does not read was renamed to {}", aside.display());
                }
                eprintln!("resumed after {} images from {}", thousands(about.images_seen), path.display());
                ema::snapshot::remove_after(run, about.images_seen)?;
                return run.create_folders();
            }
            Err(error) if !error.is_bad_checkpoint() => return Err(error),
            Err(error) if older => {
                eprintln!("warning: {error}");
                bad.push(path);
            }
            Err(error) => return Err(error.offering(checkpoint::newest_good_before::<T::Config>(run, &path))),
        }
    }
    let advice = "none of its checkpoints reads well; start again with `--overwrite`".to_owned();
    Err(TrainerError::NoCheckpoint { path: run.checkpoints(), advice })
}

/// A checkpoint is good if all processes could read it.
fn together<T: Task, A>(
    loaded: Result<A, TrainerError>,
    path: &Path,
    state: &TrainState<T>,
) -> Result<A, TrainerError> {
    let Some(team) = &state.team else { return loaded };
    let failed = others_failed(team.world(), loaded.is_ok())?;
    let value = loaded?;
    match failed {
        None => Ok(value),
        Some(who) => {
            let reason = format!("{who} cannot read it");
            Err(TrainerError::NotACheckpoint { path: path.to_owned(), reason, older: None })
        }
    }
}

/// Whether a run may go on from this checkpoint with these settings and data; says what will differ, if `aloud`.
fn accept<C: RunConfig>(
    about: &About<C>,
    path: &Path,
    here: &Here<'_, C>,
    device: &str,
    aloud: bool,
) -> Result<(), TrainerError> {
    let all = differences(&about.config, here.config)?;
    let with = |effect: Effect| {
        all.iter()
            .filter(move |difference| difference.effect() == effect)
            .map(Difference::to_string)
            .collect::<Vec<_>>()
    };
    let other = |differences, advice: &str| TrainerError::OtherConfig {
        path: path.to_owned(),
        differences,
        advice: advice.to_owned(),
    };
    let shapes = with(Effect::Shapes);
    if !shapes.is_empty() {
        return Err(other(
            shapes,
            "Another network, or other averages of it, need another run: choose another folder with `--run`.",
        ));
    }
    let mut trajectory = with(Effect::Trajectory);
    trajectory.extend(data_differences(&about.data, here.data));
    if !trajectory.is_empty() && !here.accept_changes {
        let advice = "Resume with the old values, or pass `--accept-changes` to go on with the new ones.";
        return Err(other(trajectory, advice));
    }
    if !aloud {
        return Ok(());
    }
    for difference in trajectory {
        eprintln!("note: changed: {difference}");
    }
    let mut rounding = with(Effect::Rounding);
    if about.device != device {
        rounding.push(format!("device: there {}, here {device}", about.device));
    }
    for difference in rounding {
        eprintln!("note: changed: {difference}; the results will agree to rounding, not bit for bit");
    }
    Ok(())
}

/// How the images found differ from those that the run began with.
fn data_differences(there: &DataSummary, here: &DataSummary) -> Vec<String> {
    let mut found = Vec::new();
    if there.images != here.images {
        found.push(format!("images found: there {}, here {}", there.images, here.images));
    }
    if there.classes != here.classes {
        found.push(format!("classes found: there {:?}, here {:?}", there.classes, here.classes));
    }
    if there.fingerprint != here.fingerprint {
        let show = |sum: Option<u32>| sum.map_or_else(|| "none".to_owned(), |sum| format!("{sum:08x}"));
        found.push(format!(
            "latents found: there of checksum {}, here {}",
            show(there.fingerprint),
            show(here.fingerprint)
        ));
    }
    found
}
