//! The process that measures: it reads a task a line and answers with a point a line.

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use dim_model::{BackboneConfig, ModelConfig, Precision, Recompute};
use dim_report::record::{Measurement, Mode, Outcome, Point};
use dim_torch::cuda::{self, Attention};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device};

use super::ceilings::Ceilings;
use super::config::SweepConfig;
use super::floor::Floor;
use super::measure::{Effort, measure, wait};
use super::network::Network;
use super::profile::Profile;
use super::{SweepError, Task};

/// The implementations of attention that are tried on a GPU.
const ATTENTIONS: [Attention; 2] = [Attention::CuDnn, Attention::Flash];
/// How long each of them is timed.
const TRIAL: Effort = Effort { seconds: 0.2, least_samples: 1, max_samples: 5 };

/// What a worker says when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Whether it computes on a GPU.
    pub on_gpu: bool,
    /// The GPU's name.
    pub gpu: Option<String>,
    /// `bf16` or `f32`.
    pub precision: String,
    /// Threads on the CPU.
    pub threads: u32,
    /// What the device can do at best.
    pub ceilings: Ceilings,
}

impl Ready {
    /// Of an activation.
    fn bytes_per_value(&self) -> f64 {
        if self.precision == "f32" { 4.0 } else { 2.0 }
    }
}

/// A worker on one device.
pub struct Worker {
    config: SweepConfig,
    device: Device,
    precision: Precision,
    ready: Ready,
    /// The network that the last task needed.
    network: Option<(Task, Network)>,
}

impl Worker {
    /// Starts libtorch on `device` (`auto`, `cpu` or `cuda:N`) and measures what it can do.
    ///
    /// # Errors
    /// A device that is not there.
    pub fn start(config: SweepConfig, device: &str, threads: usize) -> Result<Self, SweepError> {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        // It only fails when a pool exists already; ours is the first.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        let device = choose(device)?;
        if device.is_cuda() {
            cuda::prefer_fast()?;
        }
        let precision = if cuda::has_bf16(device) { Precision::Bf16 } else { Precision::F32 };
        let gpu = match device {
            Device::Cuda(ordinal) => {
                Some(dim_kernels::gpu::Gpu::open(ordinal).and_then(|gpu| gpu.name()).unwrap_or_else(|_| "GPU".into()))
            }
            _ => None,
        };
        let ready = Ready {
            on_gpu: device.is_cuda(),
            gpu,
            precision: if precision == Precision::F32 { "f32" } else { "bf16" }.to_owned(),
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            ceilings: Ceilings::measure(
                device,
                if precision == Precision::F32 { tch::Kind::Float } else { tch::Kind::BFloat16 },
            )?,
        };
        Ok(Self { config, device, precision, ready, network: None })
    }

    /// Says that it is ready, then answers tasks until there are no more.
    ///
    /// # Errors
    /// A conversation that breaks off, or a line that is no task.
    pub fn serve(&mut self, tasks: impl BufRead, mut answers: impl Write) -> Result<(), SweepError> {
        let broken = |error: std::io::Error| SweepError::Worker(format!("lost its conversation: {error}"));
        let mut say = |line: String| writeln!(answers, "{line}").and_then(|()| answers.flush()).map_err(broken);
        say(json(&self.ready)?)?;
        for line in tasks.lines() {
            let line = line.map_err(broken)?;
            let task = serde_json::from_str(&line)
                .map_err(|error| SweepError::Worker(format!("was given no task: {error}: {line}")))?;
            say(json(&self.point(task)?)?)?;
        }
        Ok(())
    }

    /// What it said, or will say, when it is ready.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Makes the network that `task` needs, unless the last task needed the same.
    fn build(&mut self, task: Task, config: &ModelConfig) -> Result<(), SweepError> {
        let trains = task.mode == Mode::TrainingStep;
        let serves =
            |of: &Task| (of.model, of.image_px, of.mode == Mode::TrainingStep) == (task.model, task.image_px, trains);
        if self.network.as_ref().is_some_and(|(of, _)| serves(of)) {
            return Ok(());
        }
        self.network = None; // its memory goes back first
        let model = &self.config.models[task.model];
        let recompute = Recompute { blocks: model.recompute_blocks, scan: model.recompute_scan };
        let network = Network::new(config, self.precision, trains.then_some(recompute), self.device)?;
        self.network = Some((task, network));
        Ok(())
    }

    /// Runs what `task` is about a few times, then once more under libtorch's profiler; without a CUDA graph, which would hide its
    /// kernels' origin.
    ///
    /// # Errors
    /// A configuration that does not work, no memory, or an error of the profiler.
    pub fn profile(&mut self, task: Task) -> Result<Profile, SweepError> {
        let model = &self.config.models[task.model];
        let config = model
            .config(task.image_px)
            .map_err(|problems| SweepError::Config { origin: model.name.clone(), problems })?;
        let batch = self.config.batch(&task);
        let (device, precision) = (self.device, self.ready.bytes_per_value());
        let name = model.name.clone();
        self.build(task, &config)?;
        let Some((_, network)) = &mut self.network else { return Err(no_network()) };
        let inputs = network.inputs(batch)?;
        for _ in 0..3 {
            network.run(task.mode, &inputs)?;
        }
        wait(device);
        let once = || -> Result<f64, SweepError> {
            let start = Instant::now();
            network.run(task.mode, &inputs)?;
            wait(device);
            Ok(1e3 * start.elapsed().as_secs_f64())
        };
        let (wall_ms, events) = dim_torch::profile(once)?;
        let floor = Floor::new(&config, task.mode, batch, precision, &self.ready.ceilings);
        Ok(Profile::new(name, task, batch, wall_ms, &events, &floor))
    }

    /// Measures one point; what goes wrong is the point's outcome.
    fn point(&mut self, task: Task) -> Result<Point, SweepError> {
        let model = &self.config.models[task.model];
        let config = model
            .config(task.image_px)
            .map_err(|problems| SweepError::Config { origin: model.name.clone(), problems })?;
        let mut batch = self.config.batch(&task);
        let wanted = batch;
        let (outcome, note) = loop {
            match self.attempt(task, &config, batch) {
                Ok((measurement, mut notes)) => {
                    if batch < wanted {
                        notes.push(format!("a batch of {wanted} did not fit"));
                    }
                    break (Outcome::Measured(measurement), (!notes.is_empty()).then(|| notes.join("; ")));
                }
                Err(error) => {
                    self.network = None; // its memory goes back before anything else is tried
                    let out_of_memory = is_out_of_memory(&error);
                    if out_of_memory && batch > 1 {
                        batch /= 2;
                        continue;
                    }
                    let outcome = if out_of_memory { Outcome::OutOfMemory } else { Outcome::Failed };
                    break (outcome, Some(first_line(&error.to_string())));
                }
            }
        };
        Ok(describe(&self.config, task, &config, batch, outcome, note, &self.ready))
    }

    /// [`Self::measure`], with a panic as an error: where libtorch's operations are called without a result, a lack of memory is one.
    fn attempt(
        &mut self,
        task: Task,
        config: &ModelConfig,
        batch: u32,
    ) -> Result<(Measurement, Vec<String>), SweepError> {
        // After an error the network, all that a panic can have left half done, is dropped.
        catch_unwind(AssertUnwindSafe(|| self.measure(task, config, batch))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(SweepError::Worker(format!("panicked: {}", text.unwrap_or_else(|| "for an unknown reason".to_owned()))))
        })
    }

    fn measure(
        &mut self,
        task: Task,
        config: &ModelConfig,
        batch: u32,
    ) -> Result<(Measurement, Vec<String>), SweepError> {
        self.build(task, config)?;
        let Some((_, network)) = &mut self.network else { return Err(no_network()) };
        let inputs = network.inputs(batch)?;
        let mut notes = Vec::new();
        if self.device.is_cuda() && matches!(config, ModelConfig::Dit(_) | ModelConfig::Uvit(_)) {
            let mut fastest = (f64::INFINITY, ATTENTIONS[0]);
            for attention in ATTENTIONS {
                cuda::choose_attention(attention)?;
                let trial = measure(&mut || network.run(task.mode, &inputs), batch, self.device, TRIAL)?;
                if trial.median_ms < fastest.0 {
                    fastest = (trial.median_ms, attention);
                }
            }
            cuda::choose_attention(fastest.1)?;
            notes.push(format!("attention: {:?}", fastest.1));
        }
        let trains = task.mode == Mode::TrainingStep;
        let effort =
            Effort { seconds: self.config.seconds_per_point, least_samples: 3, max_samples: self.config.max_samples };
        let graph = match self.device {
            Device::Cuda(ordinal) if self.config.cuda_graphs && !trains => network.record(task.mode, &inputs, ordinal),
            _ => return Ok((measure(&mut || network.run(task.mode, &inputs), batch, self.device, effort)?, notes)),
        };
        match graph {
            Ok(graph) => {
                notes.push("CUDA graph".to_owned());
                Ok((measure(&mut || Ok(graph.replay()?), batch, self.device, effort)?, notes))
            }
            Err(error) if is_out_of_memory(&error) => Err(error),
            Err(error) => {
                notes.push(format!("no CUDA graph: {}", first_line(&error.to_string())));
                Ok((measure(&mut || network.run(task.mode, &inputs), batch, self.device, effort)?, notes))
            }
        }
    }
}

/// A point of the sweep, with all that is known without measuring it.
#[must_use]
pub fn describe(
    sweep: &SweepConfig,
    task: Task,
    config: &ModelConfig,
    batch: u32,
    outcome: Outcome,
    note: Option<String>,
    ready: &Ready,
) -> Point {
    let side = config.image_size();
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    let forward = config.cost(side, side).total() as f64;
    let macs_per_image = match task.mode {
        Mode::Forward => forward,
        Mode::SamplingStep => 2.0 * forward,
        Mode::TrainingStep => 3.0 * forward,
    };
    Point {
        model: sweep.models[task.model].name.clone(),
        family: config.backbone().to_owned(),
        parameters: config.parameter_count(),
        mode: task.mode,
        image_px: task.image_px,
        input: vec![config.in_channels() as u64, side as u64, side as u64],
        tokens: config.tokens(side, side) as u64,
        batch,
        role: task.role,
        outcome,
        note,
        macs_per_image: Some(macs_per_image),
        floor_ms: Some(Floor::new(config, task.mode, batch, ready.bytes_per_value(), &ready.ceilings).total_ms()),
    }
}

fn choose(device: &str) -> Result<Device, SweepError> {
    let fail = |reason: &str| Err(SweepError::Device { asked: device.to_owned(), reason: reason.to_owned() });
    let ordinal = match device {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if cuda::start() { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => 0,
        other => match other.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse::<usize>().ok()) {
            Some(ordinal) => ordinal,
            None => return fail("expected auto, cpu, cuda or cuda:N"),
        },
    };
    if cuda::start() && i64::try_from(ordinal).is_ok_and(|ordinal| ordinal < Cuda::device_count()) {
        Ok(Device::Cuda(ordinal))
    } else {
        fail("libtorch finds no such GPU (is the NVIDIA driver installed?)")
    }
}

/// Never seen: the network was made just before.
fn no_network() -> SweepError {
    SweepError::Worker("has no network".into())
}

fn is_out_of_memory(error: &SweepError) -> bool {
    let text = error.to_string();
    ["out of memory", "can't allocate memory", "OUT_OF_MEMORY"].iter().any(|phrase| text.contains(phrase))
}

/// The first line says what happened; below it libtorch has its stack.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn json(value: &impl Serialize) -> Result<String, SweepError> {
    serde_json::to_string(value).map_err(|error| SweepError::Worker(format!("cannot say what it found: {error}")))
}
