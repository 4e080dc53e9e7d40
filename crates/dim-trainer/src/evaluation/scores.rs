//! From two sets to numbers, and what there is to say against them.

use dim_eval::{MeanStd, Neighbours, Subsets, frechet_distance, kernel_distance, neighbours};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::metric::{Metric, Settings};
use super::set::Set;
use crate::error::TrainerError;
use crate::format::thousands;

/// Seed of the subsets of the kernel distance.
const SUBSETS: u64 = 0;

/// The numbers of a set of images; those that were not asked for are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// FID, if the features are inception's, FD-DINOv2, if they are those of DINOv2 ViT-L/14.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frechet_distance: Option<f64>,
    /// Of features that know where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sfid: Option<f64>,
    /// Mean over its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inception_score: Option<f64>,
    /// Over its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inception_score_std: Option<f64>,
    /// Mean over the subsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<f64>,
    /// Over the subsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid_std: Option<f64>,
    /// Share of the images that look real.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Share of the reference that the images reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// How densely the images lie among real ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<f64>,
    /// Share of the reference with an image near it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
}

impl Scores {
    /// Names, for people, and values, in their order.
    pub(crate) fn named(&self, extractor: &str) -> Vec<(String, f64)> {
        let distance = match extractor {
            "inception" => "FID".to_owned(),
            // The size that the name stands for.
            "dinov2-vitl14" => "FD-DINOv2".to_owned(),
            _ => format!("Fréchet distance ({extractor})"),
        };
        let all = [
            (distance, self.frechet_distance),
            ("sFID".to_owned(), self.sfid),
            ("inception score".to_owned(), self.inception_score),
            ("inception score, deviation of parts".to_owned(), self.inception_score_std),
            ("KID".to_owned(), self.kid),
            ("KID, deviation of subsets".to_owned(), self.kid_std),
            ("precision".to_owned(), self.precision),
            ("recall".to_owned(), self.recall),
            ("density".to_owned(), self.density),
            ("coverage".to_owned(), self.coverage),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Compares `images` with `reference`. The notes say what makes the numbers worth less.
///
/// # Errors
/// [`TrainerError::OtherStatistics`] for sets that do not compare; too few images; numbers that are none.
pub(crate) fn scores(
    images: &Set,
    reference: &Set,
    settings: &Settings,
    device: Device,
) -> Result<(Scores, Vec<String>), TrainerError> {
    let mut notes = Vec::new();
    compare_origins(images, reference, &mut notes)?;
    for (set, whose) in [(images, "the images"), (reference, "the reference")] {
        notes.extend(caveats(set, whose)?);
    }
    let mut scores = Scores::default();
    if settings.has(Metric::Fd) {
        scores.frechet_distance = Some(frechet_distance(&images.gaussian()?, &reference.gaussian()?)?);
    }
    if settings.has(Metric::Sfid) {
        let lacking = |whose: &str| TrainerError::Usage(format!("--metrics sfid: {whose} has no spatial features"));
        let (one, other) = (images.spatial()?, reference.spatial()?);
        let one = one.ok_or_else(|| lacking("the set of images"))?;
        scores.sfid = Some(frechet_distance(&one, &other.ok_or_else(|| lacking("the reference"))?)?);
    }
    if let (true, Some(MeanStd { mean, std })) = (settings.has(Metric::Is), images.score()?) {
        (scores.inception_score, scores.inception_score_std) = (Some(mean), Some(std));
    }
    let [of_kid, of_pr, of_dc] = [Metric::Kid, Metric::Pr, Metric::Dc].map(|metric| settings.has(metric));
    if of_kid || of_pr || of_dc {
        let needed = || {
            TrainerError::Usage(
                "--metrics kid, pr and dc compare single images, whose features this reference does not have: name the folder of \
                 its images, or save its statistics again with these metrics"
                    .to_owned(),
            )
        };
        let one = images.kept()?.ok_or_else(needed)?;
        let other = reference.kept()?.ok_or_else(needed)?;
        for (set, kept, whose) in [(images, &one, "the images"), (reference, &other, "the reference")] {
            let kept = kept.size()[0].unsigned_abs();
            if kept < set.count() {
                let all = thousands(set.count());
                let kept = thousands(kept);
                notes.push(format!(
                    "of {whose} the first {kept} of {all} are compared singly; `--kept-images` changes it"
                ));
            }
        }
        if of_kid {
            let size = one.size()[0].min(other.size()[0]).min(settings.kid_subset_size as i64) as usize;
            if size < settings.kid_subset_size {
                notes.push(format!("subsets for KID have {size} images, for there are no more"));
            }
            let subsets = Subsets { count: settings.kid_subsets, size, seed: SUBSETS };
            let MeanStd { mean, std } = kernel_distance(&other, &one, subsets, device)?;
            (scores.kid, scores.kid_std) = (Some(mean), Some(std));
        }
        let ks = [(of_pr, settings.neighbours), (of_dc, settings.density_neighbours)];
        let ks: Vec<usize> = ks.into_iter().filter_map(|(asked, k)| asked.then_some(k)).collect();
        if !ks.is_empty() {
            for found in neighbours(&other, &one, &ks, device)? {
                let Neighbours { k, precision, recall, density, coverage } = found;
                if of_pr && k == settings.neighbours {
                    (scores.precision, scores.recall) = (Some(precision), Some(recall));
                }
                if of_dc && k == settings.density_neighbours {
                    (scores.density, scores.coverage) = (Some(density), Some(coverage));
                }
            }
        }
    }
    Ok((scores, notes))
}

/// Sets of other networks, weights or resizing do not compare.
fn compare_origins(images: &Set, reference: &Set, notes: &mut Vec<String>) -> Result<(), TrainerError> {
    let (ours, theirs) = (&images.origin, &reference.origin);
    let mut differences = Vec::new();
    let mut compare = |what: &str, one: &str, other: &str| {
        if one != other {
            differences.push(format!("{what}: {one} of the images, {other} of the reference"));
        }
    };
    compare("features", &ours.extractor, &theirs.extractor);
    match (&ours.weights, &theirs.weights) {
        (Some(one), Some(other)) => {
            compare("weights (SHA-256)", &one.sha256, &other.sha256);
            compare("resizing", &ours.preprocessing, &theirs.preprocessing);
        }
        // A file that does not say how its images were resized: by the program that publishes such.
        _ if ours.preprocessing != theirs.preprocessing => notes.push(format!(
            "the reference does not say how its images were resized; such files are made with `{}`, the images here were \
             resized with `{}`: choose with `--preprocessing`",
            theirs.preprocessing, ours.preprocessing
        )),
        _ => {}
    }
    if images.dimension() != reference.dimension() {
        compare("number of features", &images.dimension().to_string(), &reference.dimension().to_string());
    }
    if differences.is_empty() { Ok(()) } else { Err(TrainerError::OtherStatistics { differences }) }
}

/// What makes any number of this set worth less.
fn caveats(set: &Set, whose: &str) -> Result<Vec<String>, TrainerError> {
    let mut notes = Vec::new();
    let (count, features) = (set.count(), set.dimension() as u64);
    // Other programs' files do not say.
    if count > 0 && count <= features {
        notes.push(format!(
            "{whose} are {}, no more than there are features ({}): distances come out too large; compare only distances of as many \
             images",
            thousands(count),
            thousands(features)
        ));
    }
    if set.is_constant()? {
        notes.push(format!("{whose} all look the same to the network: these numbers mean nothing"));
    }
    Ok(notes)
}
