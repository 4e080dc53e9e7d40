//! A set in a file, from which it goes on bit for bit if it is not finished.
//!
//! The file is safetensors: `mean` `[feature]` and `scatter` `[feature, feature]` (over the number of images less one: the covariance), in f64, the
//! same under `spatial.` for sFID, `features` `[image, feature]` f32 of the first images, and `score` for the inception score. The metadata say
//! of what ([`Origin`]).

use std::collections::BTreeMap;
use std::path::Path;

use dim_eval::{InceptionScore, Statistics};
use dim_model::weights::{self, Naming, WeightFile};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::sums::Sums;
use super::{Origin, Set};
use crate::error::TrainerError;

/// The key of the metadata.
const KEY: &str = "dim-statistics";
/// Raised when a reader of the old format would misunderstand the new one.
const VERSION: u32 = 1;

/// What a file says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    version: u32,
    #[serde(flatten)]
    origin: Origin,
    /// Images so far.
    images: u64,
    /// Images of the whole set.
    of: u64,
    /// Rows and columns of all images, where they have one size.
    #[serde(default)]
    resolution: Option<[usize; 2]>,
    /// What the images are.
    #[serde(default)]
    subject: serde_json::Value,
    /// Images whose features are kept, at most.
    #[serde(default)]
    keep: usize,
}

impl Set {
    /// Writes all that is known; the file is there as a whole or not at all.
    ///
    /// # Errors
    /// [`TrainerError::Weights`], a full disk mostly; [`TrainerError::Unsupported`] for moments of other programs.
    pub(crate) fn save(&self, path: &Path) -> Result<(), TrainerError> {
        let about = About {
            version: VERSION,
            origin: self.origin.clone(),
            images: self.count(),
            of: self.images,
            resolution: self.resolution,
            subject: self.subject.clone(),
            keep: self.keep,
        };
        let metadata = BTreeMap::from([(KEY.to_owned(), serde_json::json!(about).to_string())]);
        Ok(weights::save(path, self.tensors()?, Naming::Ours, &metadata)?)
    }

    /// All numbers, by name, on the CPU.
    pub(super) fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainerError> {
        let mut tensors = Vec::new();
        for (prefix, sums) in [("", Some(&self.features)), ("spatial.", self.spatial.as_ref())] {
            match sums {
                Some(Sums::Known(statistics)) => {
                    let [mean, scatter] = statistics.sums();
                    tensors.push((format!("{prefix}mean"), mean.f_to_device(Device::Cpu)?));
                    tensors.push((format!("{prefix}scatter"), scatter.f_to_device(Device::Cpu)?));
                }
                Some(Sums::Gaussian(_)) => {
                    return Err(TrainerError::Unsupported(
                        "statistics that do not say how many images they are of cannot be saved".to_owned(),
                    ));
                }
                None => {}
            }
        }
        if let Some(score) = &self.score {
            tensors.push(("score".to_owned(), score.sums()?));
        }
        if let Some(kept) = self.kept()? {
            tensors.push(("features".to_owned(), kept));
        }
        Ok(tensors)
    }

    /// Reads a file, to compute on `device`.
    ///
    /// # Errors
    /// [`TrainerError::Weights`]; [`TrainerError::NotStatistics`].
    pub(crate) fn load(path: &Path, device: Device) -> Result<Self, TrainerError> {
        let wrong = |problem: String| TrainerError::NotStatistics { path: path.to_owned(), problem };
        let file = WeightFile::open(path)?;
        let about = file.metadata().get(KEY).ok_or_else(|| {
            wrong(format!("its metadata lack `{KEY}`; `dim-trainer eval --save-statistics FILE` writes such files"))
        })?;
        let about: About =
            serde_json::from_str(about).map_err(|error| wrong(format!("its `{KEY}` does not parse ({error})")))?;
        if about.version != VERSION {
            return Err(wrong(format!("its version is {}, expected {VERSION}", about.version)));
        }
        let mut tensors: BTreeMap<String, Tensor> = file.read_all()?.into_iter().collect();
        let mut sums = |prefix: &str| match (
            tensors.remove(&format!("{prefix}mean")),
            tensors.remove(&format!("{prefix}scatter")),
        ) {
            (Some(mean), Some(scatter)) => {
                let place = |tensor: Tensor| tensor.f_to_device(device);
                let statistics = Statistics::from_sums(about.images, place(mean)?, place(scatter)?);
                Ok::<_, TrainerError>(Some(Sums::Known(statistics?)))
            }
            _ => Ok(None),
        };
        let features = sums("")?.ok_or_else(|| wrong("it lacks `mean` or `scatter`".to_owned()))?;
        let spatial = sums("spatial.")?;
        let score = tensors.remove("score").map(|score| InceptionScore::from_sums(about.of, &score)).transpose()?;
        let kept = tensors.remove("features");
        let set = Self {
            origin: about.origin,
            subject: about.subject,
            images: about.of,
            start: 0,
            resolution: about.resolution,
            features,
            spatial,
            score,
            kept: kept.into_iter().collect(),
            keep: about.keep,
        };
        match set.kept()? {
            Some(kept) if kept.size().get(1) != Some(&(set.dimension() as i64)) => {
                Err(wrong(format!("its `features` are of shape {:?}, its mean of {}", kept.size(), set.dimension())))
            }
            _ => Ok(set),
        }
    }
}
