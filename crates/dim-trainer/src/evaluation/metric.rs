//! The numbers that can be asked for, and what has to be kept of the images for them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A number, or several that come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The Fréchet distance: FID, with the features of inception.
    Fd,
    /// The same of features that know where they are.
    Sfid,
    /// The inception score of the images alone.
    Is,
    /// The kernel distance.
    Kid,
    /// Precision and recall.
    Pr,
    /// Density and coverage.
    Dc,
}

/// How the metrics are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Which.
    pub metrics: Vec<Metric>,
    /// Parts of the inception score.
    pub score_parts: usize,
    /// Pairs of subsets of the kernel distance.
    pub kid_subsets: usize,
    /// Images of each, at most.
    pub kid_subset_size: usize,
    /// Neighbours of precision and recall.
    pub neighbours: usize,
    /// Neighbours of density and coverage.
    pub density_neighbours: usize,
    /// Images whose features are kept.
    pub kept_images: usize,
}

/// What is to be kept of a set beside mean and covariance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub spatial: bool,
    /// In so many parts.
    pub score_parts: Option<usize>,
    /// The features of the first images, so many.
    pub kept: usize,
}

impl Metric {
    /// Whether single images are compared, for which their features must be kept.
    fn of_images(self) -> bool {
        matches!(self, Self::Kid | Self::Pr | Self::Dc)
    }
}

impl Settings {
    /// These metrics as they are published.
    pub(crate) fn published(mut metrics: Vec<Metric>) -> Self {
        metrics.sort_unstable();
        metrics.dedup();
        Self {
            metrics,
            score_parts: 10,
            kid_subsets: 100,
            kid_subset_size: 1000,
            neighbours: 3,
            density_neighbours: 5,
            kept_images: 50_000,
        }
    }

    pub(crate) fn has(&self, metric: Metric) -> bool {
        self.metrics.contains(&metric)
    }

    /// What the images that are judged need.
    pub(crate) fn needs(&self) -> Needs {
        Needs { score_parts: self.has(Metric::Is).then_some(self.score_parts), ..self.needs_of_reference() }
    }

    /// What the images that they are judged by need.
    pub(crate) fn needs_of_reference(&self) -> Needs {
        let kept = if self.metrics.iter().any(|metric| metric.of_images()) { self.kept_images } else { 0 };
        Needs { spatial: self.has(Metric::Sfid), score_parts: None, kept }
    }
}
