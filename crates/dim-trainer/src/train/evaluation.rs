//! How good the samples of a run are while it trains: `[evaluation]`.
//!
//! The noise of samples is a function of the section's seed and their numbers, so that a run that is measured has the bits of one that is not.

use std::ops::ControlFlow;

use tch::{Device, Tensor};

use super::log::Measurement;
use crate::cli::Metric;
use crate::config::{Config, Evaluation};
use crate::denoiser::Network;
use crate::error::TrainerError;
use crate::evaluation::{Extractor, ExtractorChoice, Folders, Measure, Measuring, Reference, Set, Settings, scores};
use crate::sampling::{Request, sample_each};

/// Images that go through the network of the features at once.
const BATCH_SIZE: usize = 64;

/// The features and what the samples are judged by, ready.
pub(super) struct Evaluator {
    section: Evaluation,
    settings: Settings,
    extractor: Extractor,
    reference: Set,
    device: Device,
}

impl Evaluator {
    /// Loads the features and measures the reference, before anything is trained.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] for weights that are not there, and metrics that these features do not have; what is wrong with the reference.
    pub(super) fn open(section: &Evaluation, device: Device) -> Result<Self, TrainerError> {
        let choice = ExtractorChoice {
            features: section.features,
            weights: section.weights.clone(),
            preprocessing: section.preprocessing,
            tf32: false,
        };
        choice.weights()?;
        let reference = Reference::open(&section.reference, device)?;
        let extractor = choice.load(device)?;
        let settings = Settings::published(section.metrics.clone());
        let folders = Folders { extractor: &extractor, device, batch_size: BATCH_SIZE, patches: None, world: None };
        let reference = reference.measure(&folders, settings.needs_of_reference())?.whole;
        // What these features cannot do is told now.
        let needs = settings.needs();
        Set::new(&extractor, needs, section.samples as u64, device, serde_json::Value::Null)?;
        Ok(Self { section: section.clone(), settings, extractor, reference, device })
    }

    /// The numbers of samples of `network` at each weight of guidance; `pictures` makes images of what it draws. `progress` hears how many steps of
    /// all are done. Also returns what there is to say against the numbers.
    ///
    /// # Errors
    /// [`TrainerError::Diffusion`], also if `progress` said to stop; samples that are no numbers.
    pub(super) fn evaluate(
        &self,
        network: &Network,
        config: &Config,
        classes: usize,
        pictures: impl Fn(Tensor) -> Result<Tensor, TrainerError>,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(Vec<Measurement>, Vec<String>), TrainerError> {
        let _no_grad = tch::no_grad_guard();
        let (count, scales) = (self.section.samples, &self.section.cfg_scales);
        let indices: Vec<u64> = (0..count as u64).collect();
        let (mut found, mut all_notes) = (Vec::new(), Vec::new());
        for (number, &cfg_scale) in scales.iter().enumerate() {
            let request = Request { cfg_scale, seed: self.section.seed, ..Request::plain(config, classes, count) };
            let subject = serde_json::Value::Null;
            let set = Set::new(&self.extractor, self.settings.needs(), count as u64, self.device, subject)?;
            let measure = Measure { network: &*self.extractor.network, device: self.device, batch_size: BATCH_SIZE };
            let mut measuring = Measuring::new(measure, set);
            let observer = |done: usize, all: usize| progress(number * all + done, scales.len() * all);
            sample_each(network, &request, &indices, observer, |_, batch| measuring.push_samples(&pictures(batch)?))?;
            let (scores, notes) = scores(&measuring.finish()?, &self.reference, &self.settings, self.device)?;
            found.push(Measurement {
                features: self.extractor.network.name().to_owned(),
                cfg_scale,
                guided: request.is_guided(),
                samples: count as u64,
                seed: self.section.seed,
                scores,
            });
            all_notes.extend(notes);
        }
        all_notes.sort();
        all_notes.dedup();
        Ok((found, all_notes))
    }

    /// The number that decides which snapshot is the best: lower is better.
    pub(super) fn criterion(section: &Evaluation, found: &Measurement) -> Option<f64> {
        let decides = section.cfg_scales.first() == Some(&found.cfg_scale) && section.metrics.contains(&Metric::Fd);
        found.scores.frechet_distance.filter(|_| decides)
    }
}
