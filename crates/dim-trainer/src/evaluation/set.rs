//! What is known of a set of images: sums over their features, and the features themselves of some; in memory and in a file.
//!
//! The file is safetensors: `mean` `[feature]` and `scatter` `[feature, feature]` (over the number of images less one: the covariance), in f64, the
//! same under `spatial.` for sFID, `features` `[image, feature]` f32 of the first images, and `score` for the inception score. The metadata say
//! of what ([`Origin`]). A set that is not finished goes on from its file bit for bit.

mod gather;

use std::collections::BTreeMap;
use std::path::Path;

use dim_eval::features::Seen;
use dim_eval::{Gaussian, InceptionScore, MeanStd, Statistics};
use dim_model::weights::{self, Naming, WeightFile};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::extractor::Extractor;
use super::metric::Needs;
use crate::error::TrainerError;
use crate::provenance::FileIdentity;

/// The key of the metadata.
const KEY: &str = "dim-statistics";
/// Raised when a reader of the old format would misunderstand the new one.
const VERSION: u32 = 1;

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

/// Mean and covariance, with the sums they come from where they are known.
enum Sums {
    Known(Statistics),
    /// Of files of other programs.
    Gaussian(Gaussian),
}

impl Sums {
    fn gaussian(&self) -> Result<Gaussian, TrainerError> {
        Ok(match self {
            Self::Known(statistics) => statistics.gaussian()?,
            Self::Gaussian(gaussian) => Gaussian::new(gaussian.mean().copy(), gaussian.covariance().copy())?,
        })
    }

    fn add(&mut self, features: &Tensor) -> Result<(), TrainerError> {
        match self {
            Self::Known(statistics) => Ok(statistics.add(features)?),
            Self::Gaussian(_) => Err(TrainerError::Unsupported("statistics of unknown images cannot grow".to_owned())),
        }
    }

    fn is_constant(&self) -> Result<bool, TrainerError> {
        match self {
            Self::Known(statistics) => Ok(statistics.is_constant()?),
            Self::Gaussian(gaussian) => Ok(gaussian.covariance().f_trace()?.double_value(&[]) <= 0.0),
        }
    }
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
    fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainerError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::thread;
    use std::time::Duration;

    use dim_eval::EvalError;
    use dim_eval::features::{FeatureExtractor, Input};
    use dim_torch::distributed::{Place, Timeouts, World};

    use super::*;

    /// Sees nothing: what it would see is made up by the test.
    struct Blind;

    impl FeatureExtractor for Blind {
        fn name(&self) -> &'static str {
            "blind"
        }

        fn input(&self) -> Input {
            Input::AnySize
        }

        fn preprocessing(&self) -> &'static str {
            "none"
        }

        fn dimension(&self) -> usize {
            5
        }

        fn spatial_dimension(&self) -> Option<usize> {
            Some(3)
        }

        fn classes(&self) -> Option<usize> {
            Some(4)
        }

        fn prepare(&self, pixels: &Tensor) -> Result<Tensor, EvalError> {
            Ok(pixels.shallow_clone())
        }

        fn see(&self, _: &Tensor) -> Result<Seen, EvalError> {
            unreachable!("nothing is shown to it")
        }
    }

    fn seen(first: i64, count: i64) -> Seen {
        let of = |dimension: i64| {
            let all = Tensor::arange(100 * dimension, (Kind::Float, Device::Cpu)).view([100, dimension]);
            (all * 1.7).sin().narrow(0, first, count)
        };
        Seen { features: of(5), spatial: Some(of(3)), logits: Some(of(4)) }
    }

    fn bits(set: &Set, path: &Path) -> Vec<u8> {
        set.save(path).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn set_that_goes_on_from_a_file_is_the_one_that_was_not_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["a", "b"].map(|name| folder.path().join(name));
        let weights = FileIdentity { file: "blind".to_owned(), sha256: "00".to_owned() };
        let extractor = Extractor { network: Box::new(Blind), weights };
        let needs = Needs { spatial: true, score_parts: Some(3), kept: 50 };
        let subject = serde_json::json!({ "seed": 1 });
        let mut whole = Set::new(&extractor, needs, 70, Device::Cpu, subject).unwrap();
        whole.add(&seen(0, 30), &[[8, 6]; 30]).unwrap();
        whole.save(&path).unwrap();
        let mut resumed = Set::load(&path, Device::Cpu).unwrap();
        assert_eq!((resumed.count(), resumed.images, resumed.holds()), (30, 70, whole.holds()));
        assert!(resumed.score().is_err(), "not all images have come");
        for set in [&mut whole, &mut resumed] {
            set.add(&seen(30, 40), &[[8, 6]; 40]).unwrap();
        }
        assert_eq!(bits(&whole, &path), bits(&resumed, &other));
        assert_eq!(resumed.kept().unwrap().unwrap().size(), [50, 5]);
        assert_eq!((resumed.resolution, resumed.score().unwrap()), (Some([8, 6]), whole.score().unwrap()));

        let mut cut = std::fs::read(&path).unwrap();
        cut.truncate(cut.len() - 9);
        std::fs::write(&path, cut).unwrap();
        assert!(Set::load(&path, Device::Cpu).is_err());
    }

    /// Threads as processes, each with connections of its own.
    #[test]
    fn sets_of_several_processes_are_that_of_one() {
        let size = 3;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let empty = || {
            let weights = FileIdentity { file: "blind".to_owned(), sha256: "00".to_owned() };
            let extractor = Extractor { network: Box::new(Blind), weights };
            let needs = Needs { spatial: true, score_parts: Some(3), kept: 50 };
            Set::new(&extractor, needs, 70, Device::Cpu, serde_json::Value::Null).unwrap()
        };
        // One process has no image at all.
        let shares = [(0, 30), (30, 0), (30, 40)];
        let work = |rank: usize| {
            let (address, host) = ("127.0.0.1".to_owned(), format!("host{rank}"));
            let (launcher_holds_store, attempt, local_rank) = (false, 0, rank);
            let place = Place { rank, size, local_rank, address, port, launcher_holds_store, attempt, host };
            let patience = Duration::from_secs(30);
            let timeouts = Timeouts { start: patience, operation: patience };
            let world = World::join(&place, Device::Cpu, "same", timeouts).unwrap();
            let (first, count) = shares[rank];
            let mut own = empty().starting_at(first as u64);
            if count > 0 {
                own.add(&seen(first, count), &vec![[8, 6]; count as usize]).unwrap();
            }
            let all = own.gathered(&world).unwrap();
            world.leave().unwrap();
            all
        };
        let all = thread::scope(|scope| {
            let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || work(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).next().unwrap()
        });

        let mut one = empty();
        one.add(&seen(0, 70), &[[8, 6]; 70]).unwrap();
        assert_eq!((all.count(), all.resolution, all.holds()), (70, Some([8, 6]), one.holds()));
        for ((name, all), (same, one)) in all.tensors().unwrap().iter().zip(one.tensors().unwrap()) {
            assert_eq!(name, &same);
            let apart = ((all - &one).abs().max() / one.abs().max()).double_value(&[]);
            assert!(all.size() == one.size() && apart < 1e-10, "{name}: {apart:.2e}");
        }
        assert!((all.score().unwrap().unwrap().mean - one.score().unwrap().unwrap().mean).abs() < 1e-10);
    }
}
