//! A sweep from its first point to its last: it hands tasks to a worker, outlives it, and writes down every answer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use dim_model::BackboneConfig;
use dim_report::record::{Mode, Outcome, Point, Role, RunWriter};

use super::config::SweepConfig;
use super::progress::{Forecast, Progress};
use super::worker::{Ready, describe};
use super::{SweepError, Task, plan};

/// A share of what a product reaches that whole networks have at first guess.
const FIRST_GUESS: f64 = 0.3;

/// A worker process, and both ends of the conversation with it.
pub struct Conversation {
    child: Child,
    tasks: ChildStdin,
    answers: BufReader<ChildStdout>,
    ready: Ready,
}

impl Conversation {
    /// Starts `worker`, which must say on its standard output what [`super::worker::Worker::serve`] says.
    ///
    /// # Errors
    /// It cannot be started, or ends before it is ready.
    pub fn start(worker: &mut Command) -> Result<Self, SweepError> {
        let lost = |error: std::io::Error| SweepError::Worker(format!("could not be started: {error}"));
        let mut child = worker.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(lost)?;
        let (Some(tasks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(SweepError::Worker("has no standard streams".into()));
        };
        let mut answers = BufReader::new(answers);
        let mut line = String::new();
        answers.read_line(&mut line).map_err(lost)?;
        match serde_json::from_str(&line) {
            Ok(ready) => Ok(Self { child, tasks, answers, ready }),
            Err(_) => {
                let status = child.wait().map_err(lost)?;
                // What it had to say went to standard error.
                Err(SweepError::Worker(format!("ended before it was ready ({status})")))
            }
        }
    }

    /// What it said when it was ready.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The point that comes of a task; `Err` says how the worker ended instead.
    fn ask(&mut self, task: Task) -> Result<Point, String> {
        let question = serde_json::to_string(&task).map_err(|error| error.to_string())?;
        let asked = writeln!(self.tasks, "{question}").and_then(|()| self.tasks.flush());
        let mut line = String::new();
        let answered = asked.and_then(|()| self.answers.read_line(&mut line));
        match (answered, serde_json::from_str(&line)) {
            (Ok(length), Ok(point)) if length > 0 => Ok(point),
            _ => Err(self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It has nothing to lose; a broken one may also be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sweep that is under way.
pub struct Sweep<'a> {
    /// What is measured.
    pub config: &'a SweepConfig,
    /// Starts a worker.
    pub worker: &'a dyn Fn() -> Command,
    /// Measures only models with this in their name.
    pub only: &'a str,
    /// A point that one run of would take longer is passed over.
    pub longest_run_s: f64,
}

impl Sweep<'_> {
    /// Measures every point that `known` does not have yet, and writes each down as it comes.
    ///
    /// # Errors
    /// A worker that cannot be started, or results that cannot be written; a point that fails is a result.
    pub fn run(
        &self,
        mut conversation: Conversation,
        known: &[Point],
        writer: &mut RunWriter,
    ) -> Result<(), SweepError> {
        let name = |task: &Task| self.config.models[task.model].name.as_str();
        let tasks: Vec<Task> = plan(self.config).into_iter().filter(|task| name(task).contains(self.only)).collect();
        let is_known = |task: &Task| {
            let same = |point: &&Point| {
                (point.model.as_str(), point.mode, point.image_px, point.role)
                    == (name(task), task.mode, task.image_px, task.role)
            };
            // What failed is tried again; what did not fit will not fit now.
            known.iter().rfind(same).is_some_and(|point| !matches!(point.outcome, Outcome::Failed))
        };
        let (done, left): (Vec<Task>, Vec<Task>) = tasks.iter().copied().partition(is_known);
        let mut points: Vec<Point> = known.to_vec();
        let mut progress = Progress::new(tasks.len(), done.len());
        let macs_per_s = FIRST_GUESS * conversation.ready.ceilings.macs_per_s;
        let mut forecast = Forecast { seconds_per_point: self.config.seconds_per_point, macs_per_s };
        for (index, task) in left.iter().enumerate() {
            progress.begin(&label(name(task), task.mode, task.image_px, task.role));
            let point = match self.hopeless(*task, &points, &forecast) {
                Some(reason) => self.point_without(*task, Outcome::Skipped, reason, &conversation.ready),
                None => match conversation.ask(*task) {
                    Ok(point) => point,
                    Err(end) => {
                        let outcome = if end.contains("signal: 9") { Outcome::OutOfMemory } else { Outcome::Failed };
                        let note = format!("the measuring process ended: {end}");
                        let point = self.point_without(*task, outcome, note, &conversation.ready);
                        conversation = Conversation::start(&mut (self.worker)())?;
                        point
                    }
                },
            };
            writer.point(&point)?;
            if let (Some(measured), Some(macs)) = (point.measurement(), point.macs_per_image) {
                forecast.learn(macs * f64::from(point.batch), measured.median_ms / 1e3);
            }
            let left_s = left[index + 1..].iter().map(|task| forecast.point_s(self.macs(*task))).sum();
            progress.end(&summary(&point), left_s);
            points.push(point);
        }
        eprintln!("{} points in {:.0} s", left.len(), progress.finish().as_secs_f64());
        Ok(())
    }

    /// Multiply-accumulates of one run.
    fn macs(&self, task: Task) -> f64 {
        let model = &self.config.models[task.model];
        let Ok(config) = model.config(task.image_px) else { return 0.0 };
        let side = config.image_size();
        let times = match task.mode {
            Mode::Forward => 1.0,
            Mode::SamplingStep => 2.0,
            Mode::TrainingStep => 3.0,
        };
        let batch = f64::from(self.config.batch(&task));
        #[allow(clippy::cast_precision_loss)] // counts far below 2^53
        let macs = config.cost(side, side).total() as f64;
        macs * times * batch
    }

    /// Why a point need not be tried.
    fn hopeless(&self, task: Task, points: &[Point], forecast: &Forecast) -> Option<String> {
        let name = &self.config.models[task.model].name;
        let smaller = points.iter().rfind(|point| {
            (&point.model, point.mode, point.role) == (name, task.mode, task.role) && point.image_px < task.image_px
        })?;
        if matches!(smaller.outcome, Outcome::OutOfMemory) && smaller.batch == 1 {
            return Some(format!("one image of {} px did not fit", smaller.image_px));
        }
        // By its own speed at the smaller size, where that is known.
        let own = smaller.measurement().map(|measured| {
            self.macs(task) / (smaller.macs_per_image.unwrap_or(0.0) * f64::from(smaller.batch)) * measured.median_ms
                / 1e3
        });
        let run_s = own.unwrap_or_else(|| forecast.run_s(self.macs(task)));
        (run_s > self.longest_run_s)
            .then(|| format!("one run would take about {run_s:.0} s; the limit is {:.0} s", self.longest_run_s))
    }

    fn point_without(&self, task: Task, outcome: Outcome, note: String, ready: &Ready) -> Point {
        let model = &self.config.models[task.model];
        let batch = self.config.batch(&task);
        // The sweep's configuration was checked: every model exists at every size.
        let config = model.config(task.image_px).unwrap_or_else(|problems| unreachable!("{}", problems.join(", ")));
        describe(self.config, task, &config, batch, outcome, Some(note), ready)
    }
}

fn label(model: &str, mode: Mode, image_px: u32, role: Role) -> String {
    format!("{model}, {}, {image_px} px, {}", mode.name(), role.name())
}

fn summary(point: &Point) -> String {
    let label = label(&point.model, point.mode, point.image_px, point.role);
    let result = match (point.measurement(), point.floor_share()) {
        (Some(measured), share) => {
            let share = share.map_or_else(String::new, |share| format!(", {:.0} % of the limit", 100.0 * share));
            let (batch, ms, rate) = (point.batch, measured.median_ms, measured.images_per_s);
            format!("batch {batch}: {ms:.2} ms, {rate:.4} images/s{share}")
        }
        _ => point.outcome.name().to_owned(),
    };
    let note = point.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
    format!("{label}: {result}{note}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dim_report::record::{DeviceKind, Header, Run, VERSION};

    use super::*;
    use crate::scaling::ceilings::Ceilings;

    #[test]
    fn worker_that_is_killed_ends_its_point_and_not_the_sweep() {
        let text = include_str!("../../../configs/bench/quick.toml");
        let config = SweepConfig::parse(text, "quick.toml").unwrap();
        let ready = Ready {
            on_gpu: false,
            gpu: None,
            precision: "f32".into(),
            threads: 1,
            ceilings: Ceilings { macs_per_s: 1e12, copy_bytes_per_s: 1e10, exponentials_per_s: None },
        };
        let ready = serde_json::to_string(&ready).unwrap();
        // Every worker dies of its first task: as the system kills it that takes all memory, or of a mistake.
        let dies = |how: &str| {
            let script = format!("echo '{ready}'; read task; {how}");
            move || {
                let mut command = Command::new("sh");
                command.args(["-c", &script]);
                command
            }
        };
        for (how, killed) in [("kill -9 $$", true), ("exit 3", false)] {
            let worker = dies(how);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run.jsonl");
            let header = Header {
                version: VERSION,
                device: "a device".into(),
                device_kind: DeviceKind::Cpu,
                driver: None,
                libtorch: "2.11.0".into(),
                cpu: "a processor".into(),
                threads: 1,
                precision: "f32".into(),
                commit: "abc".into(),
                date: "2026-11-25".into(),
                quick: true,
                config: text.into(),
                groups: Vec::new(),
            };
            let mut writer = RunWriter::create(&path, &header).unwrap();
            let sweep = Sweep { config: &config, worker: &worker, only: "DiT", longest_run_s: 1e9 };
            sweep.run(Conversation::start(&mut worker()).unwrap(), &[], &mut writer).unwrap();
            let run = Run::read(&path).unwrap();
            let tasks = plan(&config).into_iter().filter(|task| config.models[task.model].name.contains("DiT")).count();
            assert_eq!(run.points.len(), tasks);
            assert!(run.points.iter().all(|point| match point.outcome {
                Outcome::OutOfMemory => killed,
                Outcome::Failed => !killed,
                // A larger image than one for which a single image did not fit.
                Outcome::Skipped => killed,
                Outcome::Measured(_) => false,
            }));
            let note = run.points[0].note.clone().unwrap();
            assert!(note.contains(if killed { "signal: 9" } else { "exit status: 3" }), "{note}");
        }
    }

    #[test]
    fn worker_that_does_not_start_is_an_error() {
        let mut command = Command::new("sh");
        let error = Conversation::start(command.args(["-c", "exit 4"])).err().unwrap().to_string();
        assert!(error.contains("ended before it was ready (exit status: 4)"), "{error}");
    }
}
