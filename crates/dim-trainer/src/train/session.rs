//! Everything one session of training works with, from the data to the logs.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use dim_data::{Loader, LoaderConfig, Order};
use dim_diffusion::upload;
use dim_torch::cuda;
use tch::{Device, Tensor};

use super::checkpoint::{self, DataSummary};
use super::evaluation::Evaluator;
use super::log::{Evaluated, JsonLog};
use super::progress::Display;
use super::state::TrainState;
use super::stop::StopRequest;
use super::task::Task;
use super::team::Team;
use super::tensorboard::EventFile;
use super::trace::Trace;
use super::window::{Position, Window};
use crate::config::RunConfig;
use crate::ema;
use crate::error::TrainerError;
use crate::files;
use crate::format::guidance;
use crate::run_folder::RunFolder;

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With a run folder that was just made.
    Fresh,
    /// From a checkpoint, whose state is loaded.
    Resumed,
}

/// A session of training: the state, and what surrounds it.
pub struct Session<T: Task> {
    /// The resolved configuration.
    pub config: T::Config,
    /// What training changes.
    pub state: TrainState<T>,
    /// What is trained: the gradient, pictures and snapshots are its own.
    pub task: T,
    /// Steps that are not reported yet.
    pub window: Window,
    /// Whether somebody asked to stop.
    pub stop: StopRequest,
    /// When the session ends even if images are left.
    pub deadline: Option<Instant>,
    /// The trace of some steps, if one is wanted.
    pub trace: Option<Trace>,
    /// Steps of this session.
    steps: u64,
    run: RunFolder,
    data: DataSummary,
    loader: Loader,
    /// Of the process that writes for all.
    logs: Option<(JsonLog, EventFile)>,
    display: Display,
}

/// Whether training is to end now: the same for all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedEnd {
    /// What to exit with, if somebody asked one of them to stop.
    pub exit_code: Option<u8>,
    /// The deadline has passed.
    pub time_is_up: bool,
}

/// A batch on the device.
pub struct DeviceBatch {
    /// `[image, channel, row, column]`: pixels in [-1, 1], or scaled latents.
    pub images: Tensor,
    /// `[image]`, i64, on the CPU, where labels are dropped; `None` for a network without classes.
    pub class: Option<Tensor>,
    /// Images that come before these in the run.
    pub first: u64,
}

impl<T: Task> Session<T> {
    /// Starts loader and logs around a state that is fresh or loaded.
    ///
    /// # Errors
    /// [`TrainerError::Data`], [`TrainerError::Write`], [`TrainerError::Diffusion`].
    pub fn new(
        task: T,
        config: T::Config,
        run: RunFolder,
        state: TrainState<T>,
        start: Start,
    ) -> Result<Self, TrainerError> {
        let images_seen = state.images_seen;
        let (logs, last) = if state.leads() {
            let (log, last) = match start {
                Start::Fresh => (JsonLog::create(&run.log())?, None),
                Start::Resumed => JsonLog::resume(&run.log(), images_seen)?,
            };
            let events = EventFile::create(run.path(), (start == Start::Resumed).then_some(images_seen))?;
            (Some((log, events)), last)
        } else {
            (None, None)
        };
        let source = std::sync::Arc::clone(task.source());
        let data = DataSummary::of(&*source);
        let order = Order::new(config.train().seed, source.len())?;
        let loader = Loader::over(source, order, loader_config(&task, &config, &state))?;
        if let Device::Cuda(ordinal) = T::parameters(&state.network).device() {
            cuda::reset_peak_memory(ordinal)?;
        }
        Ok(Self {
            task,
            window: Window::new(config.train().batch_size, last.map_or(0.0, |record| record.elapsed_s)),
            stop: StopRequest::listen()
                .map_err(|source| TrainerError::Usage(format!("cannot listen for signals: {source}")))?,
            deadline: None,
            trace: None,
            steps: 0,
            display: Display::new(config.train().images, images_seen, !state.leads()),
            config,
            run,
            state,
            data,
            loader,
            logs,
        })
    }

    /// The next batch, on the network's device. Images that could not be read are named on the display.
    ///
    /// # Errors
    /// [`TrainerError::Data`].
    pub fn next_batch(&mut self) -> Result<DeviceBatch, TrainerError> {
        let batch = self
            .loader
            .next()
            .ok_or_else(|| TrainerError::Unsupported("the data ended, which they never should".to_owned()))??;
        for broken in &batch.broken {
            self.display.warn(&format!("warning: skipped {broken}; another image stands in for it"));
        }
        let shape = [batch.len(), batch.channels, batch.size, batch.size].map(|size| size as i64);
        let images = Tensor::f_from_slice(&batch.images)?.f_view(shape)?;
        let class = if self.config.unconditional() { None } else { Some(Tensor::f_from_slice(&batch.classes)?) };
        let images = self.task.inputs(upload(&images, self.device())?, batch.first)?;
        Ok(DeviceBatch { images, class, first: batch.first })
    }

    /// A step of the optimiser with the gradient of the batch's mean loss. Returns this process's share of the loss and the gradient's norm, 0-dim, on
    /// the device.
    ///
    /// # Errors
    /// Out of memory, mostly; [`TrainerError::Torch`] if another process is lost.
    pub fn step(&mut self, batch: &DeviceBatch, lr: f64) -> Result<(Tensor, Tensor), TrainerError> {
        self.steps += 1;
        if let Some(trace) = &mut self.trace {
            trace.begin(self.steps)?;
        }
        let (state, images) = (&mut self.state, self.config.train().batch_size);
        let sum = state.gradient_sum(images)?;
        let loss = self.task.gradients(&state.network, batch, &sum)?;
        let grad_norm = state.step(lr)?;
        state.update_averages()?;
        if self.trace.as_ref().is_some_and(|trace| trace.is_complete(self.steps)) {
            self.end_trace()?;
        }
        Ok((loss, grad_norm))
    }

    /// Writes the trace that was begun, and says so; also that a wanted one was not.
    ///
    /// # Errors
    /// [`TrainerError::Write`], [`TrainerError::Torch`].
    pub fn end_trace(&mut self) -> Result<(), TrainerError> {
        if let Some(trace) = self.trace.take() {
            self.display.note(&trace.end(self.steps, self.device())?);
        }
        Ok(())
    }

    /// Whether somebody asked to stop, or the time is up; processes of a team agree on it, and wait for each other.
    ///
    /// # Errors
    /// [`TrainerError::Torch`] if one of them is lost.
    pub fn requested_end(&self) -> Result<RequestedEnd, TrainerError> {
        let time_is_up = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let exit_code = self.stop.requested();
        let Some(team) = &self.state.team else { return Ok(RequestedEnd { exit_code, time_is_up }) };
        let votes = team.world().largest(&[exit_code.unwrap_or(0).into(), time_is_up.into()])?;
        let exit_code = u8::try_from(votes[0]).ok().filter(|&code| code != 0);
        Ok(RequestedEnd { exit_code, time_is_up: votes[1] != 0 })
    }

    /// Reads the losses since the last report, which waits for the device, and writes them to logs and display.
    ///
    /// # Errors
    /// [`TrainerError::NonFinite`] if one is no number; [`TrainerError::Write`].
    pub fn report(&mut self, lr: f64) -> Result<(), TrainerError> {
        let at = Position { step: self.state.optimizer.step, images_seen: self.state.images_seen, lr };
        let team = self.state.team.as_ref();
        let sum = |losses: &Tensor| team.map_or(Ok(()), |team| Ok(team.world().all_reduce(losses)?.wait()?));
        let record = self.window.read(at, sum).map_err(|error| match error {
            TrainerError::NonFinite { quantity, value, step, images_seen, .. } => {
                TrainerError::NonFinite { quantity, value, step, images_seen, kept: self.kept() }
            }
            other => other,
        })?;
        let Some(mut record) = record else { return Ok(()) };
        record.peak_memory_bytes = self.peak_memory()?;
        let Some((log, events)) = &mut self.logs else { return Ok(()) };
        log.write(&record)?;
        let scalars = [
            ("loss", record.loss),
            ("grad_norm", record.grad_norm),
            ("lr", record.lr),
            ("images_per_s", record.images_per_s),
        ];
        events.scalars(record.images_seen, &scalars)?;
        self.display.update(&record);
        Ok(())
    }

    /// Draws a picture of what the moving average of the weights can do; of the same things every time.
    ///
    /// # Errors
    /// [`TrainerError::Diffusion`], [`TrainerError::Write`].
    pub fn draw_samples(&mut self) -> Result<(), TrainerError> {
        if !self.task.has_pictures() {
            return Ok(());
        }
        let Some(average) = self.average_to_use()? else { return Ok(()) };
        let picture = self.unless_stopped("drawing samples", |progress| {
            self.task.picture(&average, &self.config, &self.data, progress)
        })?;
        let Some(picture) = picture else { return Ok(()) };
        let path = self.run.samples(self.state.images_seen);
        files::write_bytes_atomically(&path, &picture.png)?;
        if let Some((_, events)) = &mut self.logs {
            events.picture(self.state.images_seen, "samples", &picture)?;
        }
        self.display.note(&format!("samples: {}", path.display()));
        Ok(())
    }

    /// Measures how good the samples of the moving average are, writes it to the logs, and keeps the weights if they are the best so far.
    ///
    /// # Errors
    /// [`TrainerError::Diffusion`], [`TrainerError::Eval`], [`TrainerError::Write`].
    pub fn evaluate(&mut self) -> Result<(), TrainerError> {
        let Some(section) = self.config.evaluation().cloned() else { return Ok(()) };
        let Some(average) = self.average_to_use()? else { return Ok(()) };
        let images_seen = self.state.images_seen;
        let before = JsonLog::evaluations(&self.run.log())?;
        // A run that was stopped between this and its next checkpoint has measured here already.
        if before.iter().any(|found| found.images_seen == images_seen) {
            return Ok(());
        }
        let found = self.unless_stopped("evaluating", |progress| {
            self.task.evaluate(&average, &self.config, &self.data, progress)
        })?;
        let (Some((found, notes)), Some((log, events))) = (found, &mut self.logs) else { return Ok(()) };
        let best = before.iter().filter_map(|found| Evaluator::criterion(&section, &found.evaluation));
        let best = best.fold(f64::INFINITY, f64::min);
        let mut is_best = false;
        for evaluation in found {
            is_best |= Evaluator::criterion(&section, &evaluation).is_some_and(|value| value < best);
            let guidance = guidance(evaluation.guided.then_some(evaluation.cfg_scale));
            let named = evaluation.scores.named(&evaluation.features);
            let shown: Vec<String> = named.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
            self.display.note(&format!("evaluation, {guidance}: {}", shown.join(", ")));
            let tags: Vec<(String, f64)> =
                named.into_iter().map(|(name, value)| (format!("{name} ({guidance})"), value)).collect();
            let scalars: Vec<(&str, f64)> = tags.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
            events.scalars(images_seen, &scalars)?;
            let step = self.state.optimizer.step;
            log.write_evaluation(&Evaluated { step, images_seen, evaluation })?;
        }
        if before.is_empty() {
            notes.iter().for_each(|note| self.display.note(&format!("note: {note}")));
        }
        if is_best {
            let path = self.run.best_snapshot();
            self.task.save_snapshot(&path, (&average, images_seen), &self.config, &self.data)?;
            self.display.note(&format!("the best so far: {}", path.display()));
        }
        Ok(())
    }

    /// Saves all that resume needs.
    ///
    /// # Errors
    /// [`TrainerError::Write`]; older checkpoints are then untouched.
    pub fn save_checkpoint(&mut self) -> Result<PathBuf, TrainerError> {
        let path = checkpoint::save(&self.run, &self.state, &self.config, &self.data)?;
        self.display.note(&format!("checkpoint: {}", path.display()));
        Ok(path)
    }

    /// Saves the moving average of the weights for inference.
    ///
    /// # Errors
    /// [`TrainerError::Write`], [`TrainerError::Weights`].
    pub fn save_snapshot(&mut self) -> Result<PathBuf, TrainerError> {
        let path = self.run.snapshot(self.state.images_seen);
        let Some(average) = self.average_to_use()? else { return Ok(path) };
        self.task.save_snapshot(&path, (&average, self.state.images_seen), &self.config, &self.data)?;
        self.display.note(&format!("snapshot: {}", path.display()));
        Ok(path)
    }

    /// Stores the averages under power-function profiles, if there are any and they have taken in any weights.
    ///
    /// # Errors
    /// [`TrainerError::Write`].
    pub fn save_averages(&mut self) -> Result<(), TrainerError> {
        let step = self.state.optimizer.step;
        if self.state.averages.sigma_rel().is_empty() || self.state.averages.updates(step) == 0 {
            return Ok(());
        }
        let averages = self.state.whole_averages()?;
        if !self.state.leads() {
            return Ok(());
        }
        let moment = ema::snapshot::Moment {
            images_seen: self.state.images_seen,
            step,
            config: self.config.to_toml()?,
            classes: &self.data.classes,
        };
        let path = ema::snapshot::save(&self.run, &averages, T::parameters(&self.state.network), &moment)?;
        self.display.note(&format!("averages: {}", path.display()));
        Ok(())
    }

    /// Saves what is due at the end of a run. The snapshot comes last, so its presence says that all is there.
    ///
    /// # Errors
    /// As the functions above.
    pub fn finish(&mut self) -> Result<(), TrainerError> {
        if !self.leader_says(self.run.snapshot(self.state.images_seen).exists())? {
            self.save_checkpoint()?;
            if self.config.pictures_every_images().is_some() {
                self.draw_samples()?;
            }
            self.evaluate()?;
            self.save_averages()?;
            self.save_snapshot()?;
        }
        self.display.finish();
        Ok(())
    }

    /// The moving average of the weights, for the process that leads; the others only give it their slices, where they have some.
    fn average_to_use(&self) -> Result<Option<T::Network>, TrainerError> {
        if !self.state.leads() && self.state.splitting_team().is_none() {
            return Ok(None);
        }
        let average = self.state.average(&self.config)?;
        Ok(self.state.leads().then_some(average))
    }

    /// What `work` makes, which is shown as `name` beside the bar; `None` if somebody asked to stop meanwhile: the loop ends after the next step, and
    /// it is not worth the wait.
    fn unless_stopped<R>(
        &self,
        name: &str,
        work: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<R, TrainerError>,
    ) -> Result<Option<R>, TrainerError> {
        let mut stopped = false;
        let result = work(&mut |done, all| {
            self.display.meanwhile(format!("{name}, {done} of {all} steps"));
            stopped = self.stop.requested().is_some();
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.display.meanwhile(String::new());
        if stopped { Ok(None) } else { result.map(Some) }
    }

    /// What the process that writes sees in the run's folder.
    fn leader_says(&self, yes: bool) -> Result<bool, TrainerError> {
        let Some(team) = &self.state.team else { return Ok(yes) };
        Ok(team.world().gather(&[yes.into()])?[0] == [1])
    }

    /// The most bytes on this process's GPU, or on the fullest of all.
    fn peak_memory(&self) -> Result<Option<u64>, TrainerError> {
        let Device::Cuda(ordinal) = self.device() else { return Ok(None) };
        let own = cuda::peak_memory(ordinal)?;
        let Some(team) = &self.state.team else { return Ok(Some(own)) };
        let largest = team.world().largest(&[i64::try_from(own).unwrap_or(i64::MAX)])?;
        Ok(u64::try_from(largest[0]).ok())
    }

    fn device(&self) -> Device {
        T::parameters(&self.state.network).device()
    }

    fn kept(&self) -> String {
        match checkpoint::list(&self.run).ok().and_then(|mut all| all.pop()) {
            Some(newest) => format!(
                "The last good checkpoint is {}; go on from it with `--resume --accept-changes` and other settings",
                newest.display()
            ),
            None => "No checkpoint was saved before it".to_owned(),
        }
    }
}

fn loader_config<T: Task>(task: &T, config: &T::Config, state: &TrainState<T>) -> LoaderConfig {
    LoaderConfig {
        batch_size: config.train().batch_size,
        part: state.team.as_ref().map_or((0, 1), Team::part_of_batch),
        size: task.loaded_size(),
        other_sizes: task.other_loaded_sizes(config),
        size_seed: config.train().seed,
        first: state.images_seen,
        flip_seed: config.train().random_flip.then_some(config.train().seed),
        max_broken_files: config.train().max_broken_files,
        ..LoaderConfig::default()
    }
}
