//! Checkpoints: all that resume needs, in files that are whole or absent, checked when read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dim_data::Source;
use dim_torch::Parameters;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::shards::{self, Parts};
use super::state::TrainState;
use super::task::Task;
use crate::config::{Config, RunConfig};
use crate::container::{self, Metadata};
use crate::device::kind_of;
use crate::error::TrainerError;
use crate::files;
use crate::flat::named;
use crate::run_folder::{RunFolder, images_seen_of};

/// Raised when a reader of the old format would misunderstand the new one.
const VERSION: &str = "1";
/// Of checkpoints in parts, which older programs cannot read.
const VERSION_IN_PARTS: &str = "2";
/// Appended to the name of a checkpoint that does not read.
const BAD: &str = "bad";

/// What a checkpoint says of itself, beside its tensors.
#[derive(Clone, Debug)]
pub struct About<C = Config> {
    /// Optimiser steps taken.
    pub step: u64,
    /// Images seen.
    pub images_seen: u64,
    /// The configuration of the run.
    pub config: C,
    /// The device that trained it, `cpu` or `cuda`: bits agree on one kind of device, not between two.
    pub device: String,
    /// What the data were.
    pub data: DataSummary,
    /// Where the tensors are, if not in the file itself.
    parts: Option<Parts>,
}

/// What of the data a run depends on, beside their configuration: the order is a permutation of so many images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Number of images.
    pub images: u64,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// A number that is another one for other data, where they tell: latents do, images do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<u32>,
}

impl DataSummary {
    /// The summary of an open source.
    pub fn of(source: &dyn Source) -> Self {
        let (images, classes) = (source.len() as u64, source.classes().to_vec());
        Self { images, classes, fingerprint: source.fingerprint() }
    }
}

/// Saves the state to its place in the run's folder and deletes all but the newest checkpoints. Returns the path.
///
/// All processes of a team call it; each writes a part, if the state is split between them, and else the one that leads writes all.
///
/// # Errors
/// [`TrainerError::Write`], a full disk mostly; the checkpoints that stood there are then untouched.
pub fn save<T: Task>(
    run: &RunFolder,
    state: &TrainState<T>,
    config: &T::Config,
    data: &DataSummary,
) -> Result<PathBuf, TrainerError> {
    let path = run.checkpoint(state.images_seen);
    let parts = match state.splitting_team() {
        Some(team) => Some(Parts::write(&path, team.world(), &state.flat_tensors()?)?),
        None => None,
    };
    if !state.leads() {
        return Ok(path);
    }
    let version = if parts.is_some() { VERSION_IN_PARTS } else { VERSION };
    let mut metadata = Metadata::from([
        ("kind".to_owned(), T::Config::CHECKPOINT.to_owned()),
        ("version".to_owned(), version.to_owned()),
        ("step".to_owned(), state.optimizer.step.to_string()),
        ("images_seen".to_owned(), state.images_seen.to_string()),
        ("config".to_owned(), config.to_toml()?),
        ("device".to_owned(), kind_of(T::parameters(&state.network).device()).to_owned()),
        ("data".to_owned(), serde_json::json!(data).to_string()),
    ]);
    let tensors = match &parts {
        Some(parts) => {
            parts.describe(&mut metadata);
            Vec::new()
        }
        None => state.tensors()?,
    };
    files::write_atomically(&path, |temporary| container::write(temporary, metadata, &tensors))?;
    let all = list(run)?;
    for old in &all[..all.len().saturating_sub(config.train().keep_checkpoints)] {
        fs::remove_file(old).map_err(|source| TrainerError::write(old, source))?;
    }
    shards::remove_orphans(&run.checkpoints())?;
    Ok(path)
}

/// Reads a checkpoint into `state`. `accept` sees what it says of itself before any tensor is read.
///
/// After an error the state is a mixture and only good for another call.
///
/// # Errors
/// [`TrainerError::Read`], [`TrainerError::NotACheckpoint`], [`TrainerError::Truncated`], [`TrainerError::Corrupt`],
/// [`TrainerError::CheckpointVersion`], and what `accept` returns.
pub fn load<T: Task>(
    path: &Path,
    state: &mut TrainState<T>,
    accept: impl FnOnce(&About<T::Config>) -> Result<(), TrainerError>,
) -> Result<About<T::Config>, TrainerError> {
    let about = read_about(path, &container::metadata(path)?)?;
    accept(&about)?;
    let own = state.flat_tensors()?;
    let specs = T::parameters(&state.network).specs();
    match (&about.parts, state.splitting_team()) {
        (Some(parts), _) => parts.read(path, state.optimizer.start(), &own)?,
        (None, None) => read_whole(path, named(specs, &own)?)?,
        (None, Some(_)) => {
            // Whole tensors on the CPU, of which a slice stays.
            let parameters = T::parameters(&state.network);
            let (length, used) = (parameters.padded_length(), parameters.length());
            let zeros = |_| Tensor::f_zeros([length], (Kind::Float, Device::Cpu));
            let whole = own.iter().map(zeros).collect::<Result<Vec<_>, _>>()?;
            let narrowed =
                own.iter().zip(&whole).map(|((name, _), whole)| Ok((name.clone(), whole.f_narrow(0, 0, used)?)));
            read_whole(path, named(specs, &narrowed.collect::<Result<Vec<_>, TrainerError>>()?)?)?;
            for ((_, own), whole) in own.iter().zip(&whole) {
                let slice = whole.f_narrow(0, state.optimizer.start(), own.size()[0])?;
                no_grad(|| own.shallow_clone().f_copy_(&slice))?;
            }
        }
    }
    state.optimizer.step = about.step;
    state.images_seen = about.images_seen;
    Ok(about)
}

/// Reads a checkpoint in one file into tensors by name, all of which it must have.
fn read_whole(path: &Path, tensors: Vec<(String, Tensor)>) -> Result<(), TrainerError> {
    let not_ours = |reason| TrainerError::NotACheckpoint { path: path.to_owned(), reason, older: None };
    let mut wanted: BTreeMap<_, _> = tensors.into_iter().collect();
    container::read(path, |_| Ok(()), |name, shape| take(&mut wanted, name, shape).map_err(not_ours))?;
    wanted.keys().next().map_or(Ok(()), |missing| Err(not_ours(format!("it lacks the tensor `{missing}`"))))
}

/// Whether a file with these metadata is a checkpoint of a run on a network.
pub fn is_checkpoint(metadata: &Metadata) -> bool {
    is_of::<Config>(metadata)
}

fn is_of<C: RunConfig>(metadata: &Metadata) -> bool {
    metadata.get("kind").is_some_and(|kind| kind == C::CHECKPOINT)
}

/// Reads one group of a checkpoint, `parameters` or `ema`, into a network's parameters.
///
/// # Errors
/// As [`load`].
pub fn load_weights(path: &Path, parameters: &Parameters, group: &str) -> Result<(), TrainerError> {
    let about = read_about::<Config>(path, &container::metadata(path)?)?;
    match about.parts {
        Some(parts) => parts.read(path, 0, &[(group.to_owned(), parameters.values())]),
        None => {
            let named = parameters.iter().map(|(spec, tensor)| (format!("{group}.{}", spec.name), tensor.detach()));
            read_whole(path, named.collect())
        }
    }
}

/// What the checkpoint at `path` says of itself; its tensors are read for their checksum and skipped.
///
/// # Errors
/// As [`load`].
pub fn about<C: RunConfig>(path: &Path) -> Result<About<C>, TrainerError> {
    let metadata = container::read(path, |metadata| read_about::<C>(path, metadata).map(drop), |_, _| Ok(None))?;
    let about = read_about(path, &metadata)?;
    about.parts.as_ref().map_or(Ok(()), |parts| parts.check(path))?;
    Ok(about)
}

/// The checkpoints of a run, oldest first.
///
/// # Errors
/// [`TrainerError::Read`].
pub fn list(run: &RunFolder) -> Result<Vec<PathBuf>, TrainerError> {
    let mut found: Vec<(u64, PathBuf)> = files::list(&run.checkpoints())?
        .into_iter()
        .filter_map(|path| Some((images_seen_of(&path, "safetensors")?, path)))
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The newest checkpoint older than `path` that reads well.
pub fn newest_good_before<C: RunConfig>(run: &RunFolder, path: &Path) -> Option<PathBuf> {
    let all = list(run).ok()?;
    all.into_iter().rev().skip_while(|other| other >= &path.to_path_buf()).find(|other| about::<C>(other).is_ok())
}

/// Renames a checkpoint that does not read to `….safetensors.bad`, so that it is neither found nor counted any more.
///
/// # Errors
/// [`TrainerError::Write`].
pub fn set_aside(path: &Path) -> Result<PathBuf, TrainerError> {
    let aside = path.with_extension(format!("safetensors.{BAD}"));
    fs::rename(path, &aside).map_err(|source| TrainerError::write(path, source))?;
    Ok(aside)
}

/// The destination of a tensor, if it has one, taken off the list of those that are still missing.
fn take(wanted: &mut BTreeMap<String, Tensor>, name: &str, shape: &[i64]) -> Result<Option<Tensor>, String> {
    match wanted.remove(name) {
        Some(tensor) if tensor.size() != shape => {
            Err(format!("its tensor `{name}` has shape {shape:?}, the configuration asks for {:?}", tensor.size()))
        }
        found => Ok(found),
    }
}

fn read_about<C: RunConfig>(path: &Path, metadata: &Metadata) -> Result<About<C>, TrainerError> {
    let not_ours = |reason: String| TrainerError::NotACheckpoint { path: path.to_owned(), reason, older: None };
    let get = |key: &str| metadata.get(key).ok_or_else(|| not_ours(format!("its metadata lack `{key}`")));
    if !is_of::<C>(metadata) {
        return Err(not_ours(format!(
            "its metadata do not say `kind = {}` (weights for inference go to `sample --weights`)",
            C::CHECKPOINT
        )));
    }
    let version = get("version")?;
    let parts = Parts::of(metadata).map_err(not_ours)?;
    if version != if parts.is_some() { VERSION_IN_PARTS } else { VERSION } {
        return Err(TrainerError::CheckpointVersion {
            path: path.to_owned(),
            expected: VERSION.to_owned(),
            got: version.clone(),
            older: None,
        });
    }
    let number =
        |key: &str| get(key)?.parse::<u64>().map_err(|error| not_ours(format!("its `{key}` is no number ({error})")));
    Ok(About {
        parts,
        step: number("step")?,
        images_seen: number("images_seen")?,
        config: C::parse(get("config")?, &format!("in {}", path.display()), &[])
            .map_err(|error| not_ours(error.to_string()))?,
        device: get("device")?.clone(),
        data: serde_json::from_str(get("data")?)
            .map_err(|error| not_ours(format!("its `data` do not parse ({error})")))?,
    })
}
