//! The averages of one moment, in a file: what [`reconstruct`](super::combination) works with. The format is that of checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dim_torch::Parameters;
use tch::Tensor;

use super::{PowerAverages, averages::group};
use crate::config::Config;
use crate::container::{self, Metadata};
use crate::error::TrainerError;
use crate::files;
use crate::run_folder::{RunFolder, images_seen_of};

/// What a file must say of itself to be one of these.
pub(crate) const KIND: &str = "dim-ema";
/// Raised when a reader of the old format would misunderstand the new one.
const VERSION: &str = "1";

/// What a snapshot says of itself, beside its tensors.
#[derive(Clone, Debug)]
pub struct About {
    /// The file.
    pub path: PathBuf,
    /// Images seen when it was stored.
    pub images_seen: u64,
    /// Weights in each average.
    pub updates: u64,
    /// The widths of the averages' profiles.
    pub sigma_rel: Vec<f64>,
    /// The configuration of the run.
    pub config: Config,
    /// Names of the classes.
    pub classes: Vec<String>,
}

/// Where training stands when a snapshot is stored.
pub struct Moment<'a> {
    /// Images seen.
    pub images_seen: u64,
    /// Steps that the optimiser took.
    pub step: u64,
    /// The configuration of the run, as TOML.
    pub config: String,
    /// Names of the classes.
    pub classes: &'a [String],
}

/// Stores the averages of a run whose weights are `parameters`. Returns the path.
///
/// # Errors
/// [`TrainerError::Write`], a full disk mostly.
pub fn save(
    run: &RunFolder,
    averages: &PowerAverages,
    parameters: &Parameters,
    moment: &Moment<'_>,
) -> Result<PathBuf, TrainerError> {
    let path = run.ema_snapshot(moment.images_seen);
    let metadata = Metadata::from([
        ("kind".to_owned(), KIND.to_owned()),
        ("version".to_owned(), VERSION.to_owned()),
        ("images_seen".to_owned(), moment.images_seen.to_string()),
        ("updates".to_owned(), averages.updates(moment.step).to_string()),
        ("sigma_rel".to_owned(), serde_json::json!(averages.sigma_rel()).to_string()),
        ("config".to_owned(), moment.config.clone()),
        ("classes".to_owned(), serde_json::json!(moment.classes).to_string()),
    ]);
    let tensors = averages.tensors(parameters.specs())?;
    files::write_atomically(&path, |temporary| container::write(temporary, metadata, &tensors))?;
    Ok(path)
}

/// The snapshots of a run, oldest first, none of which is later than `images_seen`.
///
/// # Errors
/// [`TrainerError::Read`].
pub fn list(run: &RunFolder, images_seen: u64) -> Result<Vec<PathBuf>, TrainerError> {
    let mut found = all(run)?;
    found.retain(|(at, _)| *at <= images_seen);
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Removes the snapshots later than `images_seen`, of a run that goes on from there and will store them again.
///
/// # Errors
/// [`TrainerError::Read`], [`TrainerError::Write`].
pub fn remove_after(run: &RunFolder, images_seen: u64) -> Result<(), TrainerError> {
    for (_, path) in all(run)?.into_iter().filter(|(at, _)| *at > images_seen) {
        fs::remove_file(&path).map_err(|source| TrainerError::write(&path, source))?;
    }
    Ok(())
}

fn all(run: &RunFolder) -> Result<Vec<(u64, PathBuf)>, TrainerError> {
    let mut found: Vec<(u64, PathBuf)> = files::list(&run.ema_snapshots())?
        .into_iter()
        .filter_map(|path| Some((images_seen_of(&path, "safetensors")?, path)))
        .collect();
    found.sort();
    Ok(found)
}

/// What the snapshot at `path` says of itself. Its tensors are read for their checksum and skipped.
///
/// # Errors
/// [`TrainerError::Read`], [`TrainerError::NotACheckpoint`], [`TrainerError::Truncated`], [`TrainerError::Corrupt`].
pub fn about(path: &Path) -> Result<About, TrainerError> {
    let metadata = container::read(path, |metadata| read_about(path, metadata).map(drop), |_, _| Ok(None))?;
    read_about(path, &metadata)
}

/// Reads the averages of these widths into flat buffers, one for each, of the length of `parameters`.
///
/// # Errors
/// As [`about`]; also if a tensor is missing or of another shape.
pub fn load(path: &Path, parameters: &Parameters, sigma_rel: &[f64]) -> Result<Vec<Tensor>, TrainerError> {
    let not_ours = |reason| TrainerError::NotACheckpoint { path: path.to_owned(), reason, older: None };
    let mut averages = Vec::with_capacity(sigma_rel.len());
    let mut wanted = BTreeMap::new();
    for &width in sigma_rel {
        let flat = parameters.values().f_zeros_like()?;
        let views = Parameters::from_flat(parameters.specs(), flat.shallow_clone())?;
        let group = group(width);
        wanted.extend(views.iter().map(|(spec, view)| (format!("{group}.{}", spec.name), view.shallow_clone())));
        averages.push(flat);
    }
    let check = |metadata: &Metadata| read_about(path, metadata).map(drop);
    container::read(path, check, |name, shape| match wanted.remove(name) {
        Some(tensor) if tensor.size() != shape => Err(not_ours(format!(
            "its tensor `{name}` has shape {shape:?}, its configuration asks for {:?}",
            tensor.size()
        ))),
        found => Ok(found),
    })?;
    wanted.keys().next().map_or(Ok(averages), |missing| Err(not_ours(format!("it lacks the tensor `{missing}`"))))
}

fn read_about(path: &Path, metadata: &Metadata) -> Result<About, TrainerError> {
    let not_ours = |reason: String| TrainerError::NotACheckpoint { path: path.to_owned(), reason, older: None };
    let get = |key: &str| metadata.get(key).ok_or_else(|| not_ours(format!("its metadata lack `{key}`")));
    let (kind, version) = (get("kind")?, get("version")?);
    if (kind.as_str(), version.as_str()) != (KIND, VERSION) {
        return Err(not_ours(format!(
            "expected averages, `kind = {KIND}` version {VERSION}, got {kind} version {version}"
        )));
    }
    let number =
        |key: &str| get(key)?.parse::<u64>().map_err(|error| not_ours(format!("its `{key}` is no number ({error})")));
    let unparsed = |key: &str, error: serde_json::Error| not_ours(format!("its `{key}` does not parse ({error})"));
    Ok(About {
        path: path.to_owned(),
        images_seen: number("images_seen")?,
        updates: number("updates")?,
        sigma_rel: serde_json::from_str(get("sigma_rel")?).map_err(|error| unparsed("sigma_rel", error))?,
        config: Config::parse(get("config")?, &format!("in {}", path.display()), &[])
            .map_err(|error| not_ours(error.to_string()))?,
        classes: serde_json::from_str(get("classes")?).map_err(|error| unparsed("classes", error))?,
    })
}
