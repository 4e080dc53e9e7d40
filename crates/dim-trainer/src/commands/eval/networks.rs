//! What networks draw against a reference: each network at each weight of guidance, without an image written.
//!
//! The folder of results has for each of them `NAME.safetensors` (what is known of its samples, from which a stopped command goes on),
//! `NAME.png` (the first samples) and `NAME.json` (its numbers); `results.json` and `report.html` of all.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dim_model::{BackboneConfig, Precision};
use dim_torch::Parameters;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use super::super::ema;
use super::super::together::Together;
use super::{choice, report, settings};
use crate::cli::EvalArgs;
use crate::config::Config;
use crate::denoiser::Network;
use crate::device::{Compute, kind_of};
use crate::error::TrainerError;
use crate::evaluation::{Extractor, Folders, Measure, Measuring, Reference, Scores, Set, Settings, scores};
use crate::files;
use crate::first_stage::FirstStage;
use crate::format::guidance;
use crate::grid::{compose, images_of};
use crate::png_file::{self, Texts};
use crate::progress::Progress;
use crate::provenance::FileIdentity;
use crate::run_folder::RunFolder;
use crate::sampling::{Request, sample_each};
use crate::snapshot::{self, Snapshot};
use crate::train::checkpoint;

/// Samples that a picture shows, in so many columns.
const SHOWN: usize = 32;
const COLUMNS: usize = 8;
/// Samples of each, unless the command line says otherwise: those of published FIDs.
const COUNT: u32 = 50_000;
/// Batches that each of several processes draws between two times at which what they know is brought together.
const ROUND_BATCHES: usize = 16;
/// What is known of samples is saved this often.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Numbers of the samples of one network at one weight of guidance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub network: String,
    pub cfg_scale: f64,
    /// Whether there was guidance at all.
    pub guided: bool,
    pub samples: u64,
    pub scores: Scores,
    pub notes: Vec<String>,
    /// The picture of the first samples, in the folder.
    pub picture: String,
}

/// Where weights come from.
enum Weights {
    Checkpoint,
    File,
    /// An average of this width.
    Average(Parameters),
}

/// A network to be judged.
struct Judged {
    name: String,
    snapshot: Snapshot,
    weights: Weights,
    identity: FileIdentity,
}

/// What all of them have in common.
struct Judge<'a> {
    arguments: &'a EvalArgs,
    settings: Settings,
    together: &'a Together,
    compute: Compute,
    /// Whether samples are drawn with them.
    cuda_graphs: bool,
    extractor: Extractor,
    reference: Set,
}

pub(super) fn run(arguments: &EvalArgs) -> Result<u8, TrainerError> {
    let settings = settings(arguments);
    let choice = choice(arguments);
    choice.weights()?;
    let judged = judged(arguments)?;
    let out = &arguments.samples.out;
    let train = judged.first().map(|judged| &judged.snapshot.config.train);
    let (threads, distributed) = train.map(|train| (train.threads, train.distributed.clone())).unwrap_or_default();
    let together = Together::start("eval", arguments, (arguments.compute, threads), &distributed)?;
    let compute = together.compute;
    let cuda_graphs = compute.cuda_graphs(arguments.samples.cuda_graphs)?;
    if together.leads() {
        files::create_folder(out)?;
        files::remove_leftovers(out)?;
    }
    let reference = arguments.reference.as_deref().map(|path| Reference::open(path, compute.device)).transpose()?;
    let reference = reference.ok_or_else(|| TrainerError::Usage("expected `--reference DIR|FILE`".to_owned()))?;
    let extractor = choice.load(compute.device)?;
    let folders = Folders {
        extractor: &extractor,
        device: compute.device,
        batch_size: arguments.batch_size.into(),
        patches: None,
        world: together.world.as_ref(),
    };
    let reference = reference.measure(&folders, settings.needs_of_reference())?.whole;
    let judge = Judge { arguments, settings, together: &together, compute, cuda_graphs, extractor, reference };
    let mut outcomes = Vec::new();
    for judged in &judged {
        outcomes.extend(judge.network(judged)?);
    }
    if !together.leads() {
        together.leave()?; // the leader has all numbers
        return Ok(0);
    }
    let results = json!({
        "features": judge.extractor.network.name(),
        "origin": judge.reference.origin,
        "reference": { "path": arguments.reference, "count": judge.reference.count() },
        "metrics": judge.settings,
        "results": outcomes,
    });
    files::write_bytes_atomically(&out.join("results.json"), format!("{results:#}\n").as_bytes())?;
    let page = out.join("report.html");
    files::write_bytes_atomically(&page, report::page(&outcomes, &results, out)?.as_bytes())?;
    if arguments.json {
        println!("{results}");
    } else {
        outcomes.iter().for_each(|outcome| print(outcome, judge.extractor.network.name()));
        println!("{}", page.display());
    }
    together.leave()?;
    Ok(0)
}

fn print(outcome: &Outcome, extractor: &str) {
    let guidance = guidance(outcome.guided.then_some(outcome.cfg_scale));
    println!("{}, {guidance}, {} samples", outcome.network, outcome.samples);
    for (name, value) in outcome.scores.named(extractor) {
        println!("  {name}: {value:.4}");
    }
    outcome.notes.iter().for_each(|note| eprintln!("note: {note}"));
}

/// The networks that the command line names.
fn judged(arguments: &EvalArgs) -> Result<Vec<Judged>, TrainerError> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let Some(run) = &arguments.run else {
        let mut all = Vec::new();
        for path in &arguments.network {
            let snapshot = snapshot::describe(path, arguments.samples.config.as_deref())?;
            let identity = FileIdentity::of(path)?;
            all.push(Judged { name: stem(path), snapshot, weights: Weights::File, identity });
        }
        for (index, judged) in all.iter().enumerate() {
            if all[..index].iter().any(|other| other.name == judged.name) {
                let name = &judged.name;
                return Err(TrainerError::Usage(format!(
                    "--network: two files are called `{name}`; results go by names"
                )));
            }
        }
        return Ok(all);
    };
    if arguments.samples.sigma_rel.is_empty() {
        let snapshot = snapshot::newest(&RunFolder::new(run), "train one, or name weights with `--network`")?;
        let identity = FileIdentity::of(&snapshot.path)?;
        let name = format!("checkpoint-{}", stem(&snapshot.path));
        return Ok(vec![Judged { name, snapshot, weights: Weights::Checkpoint, identity }]);
    }
    let mut all = Vec::new();
    for &width in &arguments.samples.sigma_rel {
        let average = ema::average(run, None, width)?;
        let last = average.last;
        all.push(Judged {
            name: format!("sigma_rel-{width}-{:012}", last.images_seen),
            identity: FileIdentity::of(&last.path)?,
            snapshot: Snapshot { path: last.path, config: last.config, classes: last.classes },
            weights: Weights::Average(average.parameters),
        });
    }
    Ok(all)
}

impl Judge<'_> {
    /// The numbers of a network at every weight of guidance.
    fn network(&self, judged: &Judged) -> Result<Vec<Outcome>, TrainerError> {
        let config = &judged.snapshot.config;
        let precision = self.compute.precision(config.train.precision)?;
        let first_stage = self.first_stage(config, precision)?;
        let autoencoder = first_stage.as_ref().map(|stage| FileIdentity::of(stage.weights())).transpose()?;
        let mut network = None;
        let mut outcomes = Vec::new();
        for cfg_scale in self.scales(config)? {
            let request = self.request(&judged.snapshot, cfg_scale)?;
            let subject = self.subject(judged, &request, precision, autoencoder.as_ref());
            let name = format!("{}-cfg-{cfg_scale}", judged.name);
            let mut measuring = self.begin(&name, &request, subject)?;
            self.together.wait()?; // what is known is not written yet when another reads it
            if measuring.set.count() < request.count as u64 {
                if network.is_none() {
                    let loaded = network.insert(load(judged, &self.compute, precision)?);
                    if self.cuda_graphs {
                        loaded.record_calls();
                    }
                }
                if let Some(network) = &network {
                    let drawn = Drawn { name: &name, network, request: &request, first_stage: first_stage.as_ref() };
                    measuring = self.draw(&drawn, measuring)?;
                }
            }
            if !self.together.leads() {
                continue;
            }
            let set = measuring.finish()?;
            let (scores, notes) = scores(&set, &self.reference, &self.settings, self.compute.device)?;
            let outcome = Outcome {
                network: judged.name.clone(),
                cfg_scale,
                guided: request.is_guided(),
                samples: set.count(),
                scores,
                notes,
                picture: format!("{name}.png"),
            };
            let text = format!("{:#}\n", json!(outcome));
            files::write_bytes_atomically(&self.file(&name, "json"), text.as_bytes())?;
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.arguments.samples.out.join(format!("{name}.{extension}"))
    }

    /// Without guidance, and with the configuration's, unless the command line says otherwise.
    fn scales(&self, config: &Config) -> Result<Vec<f64>, TrainerError> {
        let asked = &self.arguments.samples.cfg_scale;
        if let Some(scale) = asked.iter().find(|scale| !scale.is_finite()) {
            return Err(TrainerError::Usage(format!("--cfg-scale {scale}: expected a number")));
        }
        if config.unconditional() {
            return match asked.iter().find(|scale| **scale != 1.0) {
                Some(scale) => Err(TrainerError::Usage(format!(
                    "--cfg-scale {scale}: this network was trained without classes, so there is nothing to guide to"
                ))),
                None => Ok(vec![1.0]),
            };
        }
        let mut scales = if asked.is_empty() { vec![1.0, config.sample.cfg_scale] } else { asked.clone() };
        scales.sort_by(f64::total_cmp);
        scales.dedup();
        Ok(scales)
    }

    fn first_stage(&self, config: &Config, precision: Precision) -> Result<Option<FirstStage>, TrainerError> {
        let Some(section) = &config.autoencoder else { return Ok(None) };
        let path = self.arguments.samples.autoencoder.as_ref().or(section.weights.as_ref()).ok_or_else(|| {
            TrainerError::Usage(
                "this network draws latents: give its autoencoder's weights with `--autoencoder FILE`".to_owned(),
            )
        })?;
        FirstStage::load(path, section, self.compute.device, precision).map(Some)
    }

    fn request(&self, snapshot: &Snapshot, cfg_scale: f64) -> Result<Request, TrainerError> {
        let config = &snapshot.config;
        let samples = &self.arguments.samples;
        let count = samples.count.unwrap_or(COUNT) as usize;
        let classes = if snapshot.classes.is_empty() { config.model.classes() } else { snapshot.classes.len() };
        let mut request = Request {
            cfg_scale,
            batch_size: samples.sample_batch_size as usize,
            ..Request::plain(config, classes, count)
        };
        request.seed = samples.seed.unwrap_or(request.seed);
        if let Some(steps) = samples.steps {
            super::super::sample::set_steps(&mut request.sampler, steps);
        }
        request.sampler.validate().map_err(|error| TrainerError::Usage(format!("sampler: {error}")))?;
        Ok(request)
    }

    /// All that the samples are a function of.
    fn subject(
        &self,
        judged: &Judged,
        request: &Request,
        precision: Precision,
        autoencoder: Option<&FileIdentity>,
    ) -> Value {
        json!({
            "network": judged.name,
            "weights": judged.identity.sha256,
            "autoencoder": autoencoder.map(|file| &file.sha256),
            "cfg_scale": request.cfg_scale,
            "seed": request.seed,
            "samples": request.count,
            "size": request.size,
            "sampler": request.sampler,
            "schedule": request.schedule,
            "time_shift": request.time_shift,
            "precision": precision.name(),
            "device": kind_of(self.compute.device),
        })
    }

    /// What is known already, or nothing.
    fn begin(&self, name: &str, request: &Request, subject: Value) -> Result<Measuring<'_>, TrainerError> {
        let device = self.compute.device;
        let fresh = self.nothing(request.count, subject.clone())?;
        let path = self.file(name, "safetensors");
        // The picture is written first, so that what goes on has one.
        if !path.exists() || !self.file(name, "png").exists() {
            return Ok(Measuring::new(self.measure(), fresh));
        }
        let known = Set::load(&path, device)?;
        let mut differences = Vec::new();
        let mut compare = |what: &str, there: &Value, here: &Value| {
            if there != here {
                differences.push(format!("{what}: {there} there, {here} here"));
            }
        };
        for (key, here) in subject.as_object().into_iter().flatten() {
            compare(key, &known.subject[key], here);
        }
        compare("features", &json!(known.origin), &json!(fresh.origin));
        compare("what is kept", &json!(known.holds()), &json!(fresh.holds()));
        if !differences.is_empty() {
            let problem = format!(
                "it is of other samples ({}); choose another folder with `--out`, or go on as in this one",
                differences.join("; ")
            );
            return Err(TrainerError::NotStatistics { path, problem });
        }
        if self.together.leads() {
            eprintln!("{name}: {} of {} samples are known already", known.count(), request.count);
        }
        Ok(Measuring::new(self.measure(), known))
    }

    fn measure(&self) -> Measure<'_> {
        let batch_size = self.arguments.batch_size.into();
        Measure { network: &*self.extractor.network, device: self.compute.device, batch_size }
    }

    /// What is known of `count` samples before the first was drawn.
    fn nothing(&self, count: usize, subject: Value) -> Result<Set, TrainerError> {
        Set::new(&self.extractor, self.settings.needs(), count as u64, self.compute.device, subject)
    }

    /// Draws what is missing, and saves what is known of it now and then: of one process as it goes, of several after every round, in which each draws
    /// neighbouring samples.
    fn draw<'a>(&'a self, drawn: &Drawn, mut measuring: Measuring<'a>) -> Result<Measuring<'a>, TrainerError> {
        let _no_grad = tch::no_grad_guard();
        let Some(world) = &self.together.world else {
            let missing = measuring.set.count()..drawn.request.count as u64;
            self.draw_some(drawn, missing, &mut measuring)?;
            return Ok(measuring);
        };
        let (count, subject) = (drawn.request.count as u64, measuring.set.subject.clone());
        let mut first = measuring.set.count();
        while first < count {
            let round = (drawn.request.batch_size * ROUND_BATCHES * world.size()) as u64;
            let end = count.min(first + round);
            // The leader draws at least what its picture shows.
            let pictured = if first == 0 { (SHOWN as u64).min(end) } else { 0 };
            let start_of = |rank: usize| match rank {
                0 => first,
                _ => (first + pictured).max(first + (end - first) * rank as u64 / world.size() as u64).min(end),
            };
            let share =
                start_of(world.rank())..if world.rank() + 1 == world.size() { end } else { start_of(world.rank() + 1) };
            if world.leads() {
                self.draw_some(drawn, share, &mut measuring)?;
                measuring.flush()?;
                measuring = Measuring::new(self.measure(), measuring.set.gathered(world)?);
                measuring.set.save(&self.file(drawn.name, "safetensors"))?;
            } else {
                let own = self.nothing(drawn.request.count, subject.clone())?.starting_at(share.start);
                let mut own = Measuring::new(self.measure(), own);
                self.draw_some(drawn, share, &mut own)?;
                own.finish()?.gathered(world)?;
            }
            first = end;
        }
        Ok(measuring)
    }

    /// Draws some neighbouring samples. A process that is alone saves what is known of all so far now and then.
    fn draw_some(&self, drawn: &Drawn, samples: Range<u64>, measuring: &mut Measuring) -> Result<(), TrainerError> {
        let Drawn { name, network, request, first_stage } = *drawn;
        let path = self.file(name, "safetensors");
        let shown = if samples.start == 0 { SHOWN.min(request.count) } else { 0 };
        let indices: Vec<u64> = samples.collect();
        let mut pictures = Vec::new();
        let mut progress = Progress::shown_if(self.together.leads(), "images", indices.len());
        let mut saved = Instant::now();
        let alone = self.together.world.is_none();
        let observer = |done, all| {
            progress.update(done, all);
            ControlFlow::Continue(())
        };
        let result = sample_each(network, request, &indices, observer, |numbers, batch| {
            let pixels: Tensor = match first_stage {
                Some(first_stage) => first_stage.decode(&batch)?,
                None => batch,
            };
            if pictures.len() < shown {
                pictures.extend(images_of(&pixels)?);
                if pictures.len() >= shown {
                    pictures.truncate(shown);
                    let picture = png_file::encode(&compose(&pictures, COLUMNS)?, &Texts::new())?;
                    files::write_bytes_atomically(&self.file(name, "png"), &picture)?;
                }
            }
            measuring.push_samples(&pixels)?;
            let last = numbers.last().is_some_and(|number| number + 1 == request.count as u64);
            let has_picture = pictures.len() >= shown;
            if alone && (last || (has_picture && saved.elapsed() >= SAVE_EVERY)) {
                measuring.flush()?;
                measuring.set.save(&path)?;
                saved = Instant::now();
            }
            Ok(())
        });
        progress.finish();
        result
    }
}

/// What is drawn, and with what.
struct Drawn<'a> {
    name: &'a str,
    network: &'a Network,
    request: &'a Request,
    first_stage: Option<&'a FirstStage>,
}

/// The network with its weights.
fn load(judged: &Judged, compute: &Compute, precision: Precision) -> Result<Network, TrainerError> {
    let network = Network::unfilled(&judged.snapshot.config, compute.device, precision)?;
    match &judged.weights {
        Weights::Checkpoint => checkpoint::load_weights(&judged.snapshot.path, network.parameters(), "ema")?,
        Weights::File => snapshot::load(&judged.snapshot.path, &network)?,
        Weights::Average(average) => {
            tch::no_grad(|| network.parameters().values().f_copy_(&average.values()))?;
        }
    }
    Ok(network)
}
