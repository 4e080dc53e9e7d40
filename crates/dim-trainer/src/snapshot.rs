//! Snapshots: weights for inference, which carry their configuration, and weights from elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dim_model::weights::{self, Naming, WeightFile};
use dim_torch::Parameters;

use crate::config::Config;
use crate::denoiser::Network;
use crate::error::TrainerError;
use crate::run_folder::RunFolder;
use crate::train::checkpoint;

/// What can be known of weights without reading their tensors.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// The configuration they were trained with.
    pub config: Config,
    /// Names of the classes; empty if they are not known.
    pub classes: Vec<String>,
}

/// Saves the moving average of a run's weights with its configuration: all that inference needs, in one file.
///
/// `average` is that of the weights after `images_seen` images. The same average gives the same bytes.
///
/// # Errors
/// [`TrainerError::Weights`], a full disk mostly.
pub fn save(
    path: &Path,
    (average, images_seen): (&Network, u64),
    config: &Config,
    classes: &[String],
) -> Result<(), TrainerError> {
    let about =
        BTreeMap::from([("images_seen".to_owned(), images_seen.to_string()), ("weights".to_owned(), "ema".to_owned())]);
    save_weights(path, average.parameters(), config, classes, about)
}

/// Saves weights with the configuration that they belong to and what else there is to say of them: all that inference needs, in one file.
///
/// # Errors
/// [`TrainerError::Weights`], a full disk mostly.
pub fn save_weights(
    path: &Path,
    parameters: &Parameters,
    config: &Config,
    classes: &[String],
    about: BTreeMap<String, String>,
) -> Result<(), TrainerError> {
    Ok(weights::save_parameters(path, parameters, Naming::Ours, &metadata(config, classes, about)?)?)
}

/// What weights say of themselves: `about`, and the configuration and the classes that they belong to.
///
/// # Errors
/// [`TrainerError::Usage`] if a path in the configuration is not UTF-8.
pub fn metadata(
    config: &Config,
    classes: &[String],
    mut about: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TrainerError> {
    add_config(&mut about, config)?;
    about.insert(CLASSES.to_owned(), serde_json::json!(classes).to_string());
    Ok(about)
}

/// Sets the configuration that weights with these metadata belong to.
///
/// # Errors
/// As [`metadata`].
pub fn add_config(about: &mut BTreeMap<String, String>, config: &Config) -> Result<(), TrainerError> {
    about.insert(CONFIG.to_owned(), config.to_toml()?);
    Ok(())
}

/// Reads a file of weights into a network: safetensors or PyTorch, under our names or the authors'; of a checkpoint the
/// moving average.
///
/// # Errors
/// [`TrainerError::Weights`] with every missing, unexpected and wrongly shaped key at once.
pub fn load(path: &Path, network: &Network) -> Result<(), TrainerError> {
    let file = WeightFile::open(path)?;
    if checkpoint::is_checkpoint(file.metadata()) {
        return checkpoint::load_weights(path, network.parameters(), "ema");
    }
    Ok(weights::assign_file(network.parameters(), file, network.config().name_table())?)
}

/// What can be known of a file of weights: its own configuration, or the one at `config` if that is given.
///
/// # Errors
/// [`TrainerError::Weights`]; [`TrainerError::Usage`] if neither has a configuration; what [`Config::load`] says.
pub fn describe(path: &Path, config: Option<&Path>) -> Result<Snapshot, TrainerError> {
    let file = WeightFile::open(path)?;
    let config = match config {
        Some(config) => Config::load(config, &[])?,
        None => config_of(&file)?.ok_or_else(|| {
            TrainerError::Usage(format!(
                "{} carries no configuration; name the one it belongs to with `--config`",
                path.display()
            ))
        })?,
    };
    let classes = file.metadata().get(CLASSES).and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default();
    Ok(Snapshot { path: path.to_owned(), config, classes })
}

/// The newest checkpoint of a run; `advice` says what to do if there is none.
///
/// # Errors
/// [`TrainerError::NoCheckpoint`]; as [`checkpoint::about`].
pub fn newest(run: &RunFolder, advice: &str) -> Result<Snapshot, TrainerError> {
    let none = || TrainerError::NoCheckpoint { path: run.checkpoints(), advice: advice.to_owned() };
    let path = checkpoint::list(run)?.pop().ok_or_else(none)?;
    let about = checkpoint::about::<Config>(&path).map_err(|error| error.offering(None))?;
    Ok(Snapshot { path, config: about.config, classes: about.data.classes })
}

/// The configuration that a file of weights carries, if it is one of our snapshots or checkpoints.
///
/// # Errors
/// [`TrainerError::ConfigSyntax`] or [`TrainerError::ConfigValues`] if it does not parse.
pub fn config_of(file: &WeightFile) -> Result<Option<Config>, TrainerError> {
    let origin = format!("in {}", file.path().display());
    file.metadata().get(CONFIG).map(|text| Config::parse(text, &origin, &[])).transpose()
}

// Keys of the metadata.
const CONFIG: &str = "config";
const CLASSES: &str = "classes";
