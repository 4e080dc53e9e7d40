//! What a sweep measures: `configs/bench/*.toml`.

use std::collections::{BTreeMap, BTreeSet};

use dim_model::{BackboneConfig, ModelConfig};
use dim_report::record::{Group, Mode, Role};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{SweepError, plan::Task};

/// A sweep: models × resolutions × modes × roles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Sides of the square images, in pixels.
    pub resolutions: Vec<u32>,
    /// What is timed.
    pub modes: Vec<Mode>,
    /// One image, or as many as keep the device busy.
    pub roles: Vec<Role>,
    /// Images in a full batch at 256 px; at other sizes as many as have the same number of pixels.
    pub images_at_256_px: FullBatch,
    /// Images in a full batch at sizes of which that is not enough to keep the device busy, by the side in pixels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images_at_px: BTreeMap<String, FullBatch>,
    /// Seconds that a point is timed for, about.
    pub seconds_per_point: f64,
    /// Most timings of a point.
    pub max_samples: usize,
    /// On a GPU, forward passes and sampling steps are recorded once and replayed, as a sampler would.
    #[serde(default)]
    pub cuda_graphs: bool,
    /// The networks.
    pub models: Vec<Model>,
    /// Which of them are fair to compare, and why.
    pub groups: Vec<Group>,
}

/// Images in a full batch, by what is timed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullBatch {
    /// A forward pass.
    pub forward: f64,
    /// A sampling step, whose guidance takes every image twice.
    pub sampling_step: f64,
    /// A training step.
    pub training_step: f64,
}

impl FullBatch {
    fn of(&self, mode: Mode) -> f64 {
        match mode {
            Mode::Forward => self.forward,
            Mode::SamplingStep => self.sampling_step,
            Mode::TrainingStep => self.training_step,
        }
    }
}

/// A mode's name in files.
fn serde_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Forward => "forward",
        Mode::SamplingStep => "sampling_step",
        Mode::TrainingStep => "training_step",
    }
}

/// A network of the sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What it is called, such as `DiM-H/2`.
    pub name: String,
    /// What it is, such as `dim_h_2`.
    pub preset: String,
    /// Fields that differ from the preset's.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub with: Table,
    /// Side of the image over that of the network's input: 8 for the latents of KL-f8, 1 for pixels.
    pub downsampling: u32,
    /// Blocks that run again in a training step's backward pass; none by default.
    #[serde(default)]
    pub recompute_blocks: usize,
    /// Whether the scans of the other blocks do.
    #[serde(default)]
    pub recompute_scan: bool,
    /// What is timed of this network; by default what the sweep says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Vec<Mode>>,
    /// Largest image that is tried; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_px: Option<u32>,
    /// Largest image that it is trained on; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_training_px: Option<u32>,
    /// Images in this network's full batches where the sweep's do not suit it, by the side in pixels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images_at_px: BTreeMap<String, FullBatch>,
}

impl Model {
    /// The network for images of this side.
    ///
    /// # Errors
    /// One sentence for each problem.
    pub fn config(&self, image_px: u32) -> Result<ModelConfig, Vec<String>> {
        let preset = ModelConfig::named(&self.preset).ok_or_else(|| {
            vec![format!("unknown preset `{}`, expected one of {}", self.preset, ModelConfig::names().join(", "))]
        })?;
        let mut fields = Table::try_from(preset).map_err(|error| vec![error.to_string()])?;
        fields.extend(self.with.clone());
        let config: ModelConfig = fields.try_into().map_err(|error| vec![format!("`with`: {error}")])?;
        if !image_px.is_multiple_of(self.downsampling) {
            return Err(vec![format!("{image_px} px is no multiple of `downsampling` = {}", self.downsampling)]);
        }
        let side = (image_px / self.downsampling) as usize;
        if !side.is_multiple_of(config.size_multiple()) {
            let multiple = config.size_multiple();
            return Err(vec![format!("an input of {side} for images of {image_px} px is no multiple of {multiple}")]);
        }
        let config = config.with_image_size(side);
        config.validate().map_err(|error| error.problems)?;
        Ok(config)
    }
}

impl SweepConfig {
    /// Reads TOML and checks everything; `origin` names it in errors.
    ///
    /// # Errors
    /// [`SweepError::Config`] with every problem at once.
    pub fn parse(text: &str, origin: &str) -> Result<Self, SweepError> {
        let fail = |problems| SweepError::Config { origin: origin.to_owned(), problems };
        let table: Table = toml::from_str(text).map_err(|error| fail(vec![error.to_string().trim_end().to_owned()]))?;
        let config: Self = serde_path_to_error::deserialize(toml::Value::Table(table))
            .map_err(|error| fail(vec![format!("`{}`: {}", error.path(), error.inner().message().trim_end())]))?;
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(fail(problems)) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        for (key, empty) in [
            ("resolutions", self.resolutions.is_empty()),
            ("modes", self.modes.is_empty()),
            ("roles", self.roles.is_empty()),
            ("models", self.models.is_empty()),
        ] {
            require(!empty, format!("`{key}` must have at least one entry"));
        }
        require(!self.resolutions.contains(&0), "`resolutions` must be positive, one is 0".into());
        let seconds = self.seconds_per_point;
        require(
            (0.0..=3600.0).contains(&seconds),
            format!("`seconds_per_point` must be from 0 to 3600, got {seconds}"),
        );
        require(self.max_samples >= 1, "`max_samples` must be at least 1, got 0".into());
        // Whose batches, at which side: the sweep's, then those of single networks.
        let of_sweep = self.images_at_px.iter().map(|(px, batch)| (String::new(), px, batch));
        let of_models = self
            .models
            .iter()
            .flat_map(|model| model.images_at_px.iter().map(|(px, batch)| (format!("{}: ", model.name), px, batch)));
        let mut tables = vec![(String::new(), "images_at_256_px".to_owned(), &self.images_at_256_px)];
        for (owner, px, batch) in of_sweep.chain(of_models) {
            let known = px.parse().is_ok_and(|px| self.resolutions.contains(&px));
            require(known, format!("{owner}`images_at_px` has {px}, which is none of `resolutions`"));
            tables.push((owner, format!("images_at_px.{px}"), batch));
        }
        for (owner, table, batch) in tables {
            for mode in [Mode::Forward, Mode::SamplingStep, Mode::TrainingStep] {
                let (key, images) = (serde_name(mode), batch.of(mode));
                let positive = images > 0.0 && images.is_finite();
                require(positive, format!("{owner}`{table}.{key}` must be positive, got {images}"));
            }
        }
        let mut names = BTreeSet::new();
        for model in &self.models {
            require(names.insert(model.name.as_str()), format!("two models are called `{}`", model.name));
            require(model.downsampling >= 1, format!("{}: `downsampling` must be at least 1, got 0", model.name));
            if model.downsampling == 0 {
                continue;
            }
            let tried = self.resolutions.iter().filter(|px| model.max_px.is_none_or(|most| **px <= most));
            // The same problem at every resolution is told once.
            let found: BTreeSet<String> = tried.filter_map(|px| model.config(*px).err()).flatten().collect();
            found.into_iter().for_each(|problem| require(false, format!("{}: {problem}", model.name)));
        }
        for group in &self.groups {
            for model in group.models.iter().filter(|model| !names.contains(model.as_str())) {
                require(false, format!("the group `{}` has `{model}`, which is no model of the sweep", group.name));
            }
        }
        problems
    }

    /// Images in a task's batch.
    #[must_use]
    pub fn batch(&self, task: &Task) -> u32 {
        let Task { model, mode, image_px, role } = *task;
        if role == Role::Latency {
            return 1;
        }
        let side = f64::from(image_px) / 256.0;
        let px = image_px.to_string();
        let own = self.models.get(model).and_then(|model| model.images_at_px.get(&px));
        let images = match own.or_else(|| self.images_at_px.get(&px)) {
            Some(batch) => batch.of(mode),
            None => self.images_at_256_px.of(mode) / (side * side),
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at least 1, and far below 2^32
        let batch = images.floor().max(1.0) as u32;
        batch
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const QUICK: &str = include_str!("../../../configs/bench/quick.toml");
    const FULL: &str = include_str!("../../../configs/bench/full.toml");

    #[test]
    fn shipped_sweeps_make_sense() {
        for (name, text) in [("quick.toml", QUICK), ("full.toml", FULL)] {
            let config = SweepConfig::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
            assert!(!config.groups.is_empty());
            let again = SweepConfig::parse(&toml::to_string(&config).unwrap(), name).unwrap();
            assert_eq!(again, config);
        }
    }

    #[test]
    fn groups_are_as_equal_as_they_say() {
        for text in [QUICK, FULL] {
            let config = SweepConfig::parse(text, "").unwrap();
            let px = 256;
            let of = |group: &Group, count: &dyn Fn(&ModelConfig, usize) -> u64| -> Vec<f64> {
                let models =
                    group.models.iter().filter_map(|name| config.models.iter().find(|model| model.name == *name));
                let sizes = models.map(|model| (model.config(px).unwrap(), (px / model.downsampling) as usize));
                sizes.map(|(model, side)| count(&model, side) as f64).collect()
            };
            for group in &config.groups {
                let values = match group.name.as_str() {
                    "equal parameters" => of(group, &|model, _| model.parameter_count()),
                    "equal multiply-adds" => of(group, &|model, side| model.cost(side, side).total()),
                    _ => continue,
                };
                let (low, high) = values.iter().fold((f64::MAX, 0.0_f64), |(low, high), v| (low.min(*v), high.max(*v)));
                assert!(values.len() >= 2 && high / low < 1.05, "{}: {values:?}", group.name);
            }
        }
    }

    #[test]
    fn full_batches_keep_their_pixels_and_latency_is_of_one_image() {
        let config = SweepConfig::parse(FULL, "full.toml").unwrap();
        let batch = |mode, role, image_px| config.batch(&Task { model: 0, mode, image_px, role });
        let at_256 = batch(Mode::Forward, Role::Throughput, 256);
        assert_eq!(batch(Mode::Forward, Role::Throughput, 512), at_256 / 4);
        assert_eq!(batch(Mode::Forward, Role::Throughput, 2048), 16);
        assert_eq!(batch(Mode::Forward, Role::Throughput, 4096), 1);
        assert_eq!(batch(Mode::TrainingStep, Role::Latency, 256), 1);
    }

    #[test]
    fn a_network_may_have_full_batches_of_its_own() {
        let config = SweepConfig::parse(FULL, "full.toml").unwrap();
        let of = |name: &str| {
            let model = config.models.iter().position(|model| model.name == name).unwrap();
            config.batch(&Task { model, mode: Mode::TrainingStep, image_px: 256, role: Role::Throughput })
        };
        assert_eq!([of("DiM-H/2"), of("DiT-XL/2")], [64, 128]);
        let own = "name = \"DiM-H/2\"\nimages_at_px.300 = { forward = 0, sampling_step = 1, training_step = 1 }";
        let broken = FULL.replacen("name = \"DiM-H/2\"", own, 1);
        let error = SweepConfig::parse(&broken, "").unwrap_err().to_string();
        assert!(error.contains("DiM-H/2: `images_at_px.300.forward` must be positive, got 0"), "{error}");
        assert!(error.contains("DiM-H/2: `images_at_px` has 300"), "{error}");
    }

    #[test]
    fn every_problem_is_told_at_once_and_unknown_keys_by_name() {
        let broken =
            QUICK.replacen("preset = \"", "preset = \"x", 1).replacen("max_samples = ", "max_samples = 0 # ", 1);
        let error = SweepConfig::parse(&broken, "broken.toml").unwrap_err().to_string();
        assert!(error.starts_with("broken.toml does not work:"), "{error}");
        assert!(error.contains("`max_samples`") && error.contains("unknown preset `x"), "{error}");
        let unknown = QUICK.replacen("max_samples", "most_samples", 1);
        let error = SweepConfig::parse(&unknown, "").unwrap_err().to_string();
        assert!(error.contains("most_samples"), "{error}");
    }
}
