//! What is known of a set of images: sums over their features, and the features themselves of some.

mod file;
mod gather;
mod sums;

use dim_eval::features::Seen;
use dim_eval::{Gaussian, InceptionScore, MeanStd, Statistics};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::extractor::Extractor;
use super::metric::Needs;
use crate::error::TrainerError;
use crate::provenance::FileIdentity;
use sums::Sums;

/// What the numbers are of: sets of which one of these differs do not compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The network.
    pub extractor: String,
    /// What is done to images before it.
    pub preprocessing: String,
    /// Its weights; not known of files of other programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<FileIdentity>,
}

/// What is known of some images.
pub(crate) struct Set {
    pub origin: Origin,
    /// What the images are, for those who read the file: a folder, or what they were drawn with.
    pub subject: serde_json::Value,
    /// Images of the whole set; of files of other programs 0, which do not say.
    pub images: u64,
    /// The number of its first image, where another process has those before.
    start: u64,
    /// Rows and columns of all images so far, where they have one size.
    pub resolution: Option<[usize; 2]>,
    features: Sums,
    spatial: Option<Sums>,
    score: Option<InceptionScore>,
    /// `[image, feature]` each, f32 on the CPU.
    kept: Vec<Tensor>,
    keep: usize,
}

impl Set {
    /// Of no image yet, of `images` to come.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] if the network does not have what is needed; too few images for it.
    pub(crate) fn new(
        extractor: &Extractor,
        needs: Needs,
        images: u64,
        device: Device,
        subject: serde_json::Value,
    ) -> Result<Self, TrainerError> {
        let network = &*extractor.network;
        let lacks = |metric: &str, what: &str| {
            let name = network.name();
            TrainerError::Usage(format!("--metrics {metric}: {name} has no {what}; use `--features inception`"))
        };
        let spatial = match (needs.spatial, network.spatial_dimension()) {
            (false, _) => None,
            (true, Some(dimension)) => Some(Sums::Known(Statistics::on(dimension, device)?)),
            (true, None) => return Err(lacks("sfid", "features that know where they are")),
        };
        let score = match (needs.score_parts, network.classes()) {
            (None, _) => None,
            (Some(parts), Some(classes)) => Some(InceptionScore::new(classes, images, parts)?),
            (Some(_), None) => return Err(lacks("is", "classifier, or its file of weights has none")),
        };
        Ok(Self {
            origin: Origin {
                extractor: network.name().to_owned(),
                preprocessing: network.preprocessing().to_owned(),
                weights: Some(extractor.weights.clone()),
            },
            subject,
            images,
            start: 0,
            resolution: None,
            features: Sums::Known(Statistics::on(network.dimension(), device)?),
            spatial,
            score,
            kept: Vec::new(),
            keep: needs.kept,
        })
    }

    /// The same of images from number `start` on, those before being another process's.
    #[must_use]
    pub(crate) fn starting_at(self, start: u64) -> Self {
        Self { start, ..self }
    }

    /// Of moments alone.
    pub(crate) fn of_gaussians(
        origin: Origin,
        subject: serde_json::Value,
        features: Gaussian,
        spatial: Option<Gaussian>,
    ) -> Self {
        Self {
            origin,
            subject,
            images: 0,
            start: 0,
            resolution: None,
            features: Sums::Gaussian(features),
            spatial: spatial.map(Sums::Gaussian),
            score: None,
            kept: Vec::new(),
            keep: 0,
        }
    }

    /// What is measured beside mean and covariance: a set can go on as another one only if this is the same.
    pub(crate) fn holds(&self) -> (bool, Option<u64>, usize) {
        (self.spatial.is_some(), self.score.as_ref().map(InceptionScore::parts), self.keep)
    }

    /// Images so far; 0 where they are not known.
    pub(crate) fn count(&self) -> u64 {
        match &self.features {
            Sums::Known(statistics) => statistics.count(),
            Sums::Gaussian(_) => 0,
        }
    }

    /// Number of features.
    pub(crate) fn dimension(&self) -> usize {
        match &self.features {
            Sums::Known(statistics) => statistics.dimension(),
            Sums::Gaussian(gaussian) => gaussian.mean().numel(),
        }
    }

    /// Takes in what the network saw in the next images, which had so many rows and columns.
    ///
    /// # Errors
    /// Features that are no numbers, by the number of the image; no memory.
    pub(crate) fn add(&mut self, seen: &Seen, sizes: &[[usize; 2]]) -> Result<(), TrainerError> {
        let first = self.start + self.count();
        self.features.add(&seen.features)?;
        if let (Some(sums), Some(spatial)) = (&mut self.spatial, &seen.spatial) {
            sums.add(spatial)?;
        }
        if let (Some(score), Some(logits)) = (&mut self.score, &seen.logits) {
            score.add(first, logits)?;
        }
        for (number, size) in sizes.iter().enumerate() {
            let is_first = first == self.start && number == 0;
            self.resolution = if is_first { Some(*size) } else { self.resolution.filter(|known| known == size) };
        }
        let more = self.keep.saturating_sub(self.kept_images()).min(seen.features.size()[0] as usize) as i64;
        if more > 0 {
            let rows = seen.features.f_narrow(0, 0, more)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
            self.kept.push(rows.f_contiguous()?.copy());
        }
        Ok(())
    }

    /// Mean and covariance.
    ///
    /// # Errors
    /// [`dim_eval::EvalError::TooFewImages`].
    pub(crate) fn gaussian(&self) -> Result<Gaussian, TrainerError> {
        self.features.gaussian()
    }

    /// Those of the features that know where they are, if they were measured.
    ///
    /// # Errors
    /// As [`gaussian`](Self::gaussian).
    pub(crate) fn spatial(&self) -> Result<Option<Gaussian>, TrainerError> {
        self.spatial.as_ref().map(Sums::gaussian).transpose()
    }

    /// The inception score, if it was measured.
    ///
    /// # Errors
    /// Before all images have come.
    pub(crate) fn score(&self) -> Result<Option<MeanStd>, TrainerError> {
        Ok(self.score.as_ref().map(InceptionScore::score).transpose()?)
    }

    /// The features that were kept, `[image, feature]`, f32 on the CPU.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn kept(&self) -> Result<Option<Tensor>, TrainerError> {
        if self.kept.is_empty() { Ok(None) } else { Ok(Some(Tensor::f_cat(&self.kept, 0)?)) }
    }

    fn kept_images(&self) -> usize {
        self.kept.iter().map(|rows| rows.size()[0] as usize).sum()
    }

    /// Whether all images look the same to the network.
    ///
    /// # Errors
    /// An error of libtorch.
    pub(crate) fn is_constant(&self) -> Result<bool, TrainerError> {
        self.features.is_constant()
    }
}

#[cfg(test)]
mod tests;
