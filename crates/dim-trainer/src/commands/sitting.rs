//! One sitting of training, whatever is trained: a new run or one that goes on, from the command line to what is printed at the end.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dim_model::Precision;
use dim_report::machine::{cards, commit_of, processor};
use tch::Device;

use super::together::Together;
use crate::cli::{TrainArgs, Which};
use crate::config::{RunConfig, Train};
use crate::device::name_of;
use crate::error::TrainerError;
use crate::files;
use crate::format::thousands;
use crate::launch::Launch;
use crate::provenance::Drawing;
use crate::run_folder::RunFolder;
use crate::train::checkpoint::{self, DataSummary};
use crate::train::sessions::{self, Begun, EndReason, Ended, SessionLine};
use crate::train::{Here, Outcome, Session, Start, Task, Trace, TrainState, resume, train};

/// Trains what `open` makes of the configuration, on a device in a precision. `command` is what resumes it.
pub(super) fn run<T: Task>(
    command: &str,
    arguments: &TrainArgs,
    open: impl FnOnce(&T::Config, Device, Precision) -> Result<T, TrainerError>,
) -> Result<u8, TrainerError> {
    let run = RunFolder::new(folder(arguments));
    let launch = Launch::from_environment(|name| env::var(name).ok())?;
    let resumed = from_where(arguments, &run, launch.as_ref())?;
    let mut config: T::Config = read_config(arguments, resumed, &run)?;
    let meant = arguments.overwrite || arguments.resume == Some(Which::IfAny) || started_again(launch.as_ref());
    if resumed.is_none() && !meant {
        run.refuse_existing()?;
    }
    refuse_idle_processes(config.train(), launch.as_ref())?;
    let asked = (arguments.compute, config.train().threads);
    let together = Together::join(launch.as_ref(), command, &shared(&config)?, asked, &config.train().distributed)?;
    let (compute, leads) = (together.compute, together.leads());
    config.train_mut().threads = Some(compute.threads);
    let precision = compute.precision(config.train().precision)?;
    let mut task = open(&config, compute.device, precision)?;
    if leads {
        task.prepare_to_lead(&config, compute.device)?;
    }
    let mut state = TrainState::<T>::zeros(&config, compute.device, precision, together.world.clone())?;
    let start = match resumed {
        Some(which) => {
            let data = DataSummary::of(&**task.source());
            let here = Here { config: &config, data: &data, accept_changes: arguments.accept_changes };
            resume(&run, which == Which::Older, &here, &mut state)?;
            Start::Resumed
        }
        None => {
            match &config.train().initial_weights {
                Some(path) => state.start_from(path, &config)?,
                None => state.initialise(&config)?,
            }
            together.wait()?; // others may still read them
            if leads {
                run.clear()?; // last, for the initial weights may stand in it
            }
            Start::Fresh
        }
    };
    if leads {
        files::write_bytes_atomically(&run.config(), config.to_toml()?.as_bytes())?;
        eprintln!(
            "{} parameters, {} images of {} classes, on {}; run folder {}",
            thousands(T::parameters(&state.network).iter().map(|(spec, _)| spec.elements() as u64).sum()),
            thousands(task.source().len() as u64),
            task.source().classes().len(),
            together.describe(),
            run.path().display()
        );
        if matches!(start, Start::Fresh) {
            note_fresh_weights(config.train());
        }
    }
    let begun = leads.then(|| Begun {
        begun_s: sessions::now_s(),
        images_seen: state.images_seen,
        program: Drawing::program(),
        commit: commit_of(Path::new(env!("CARGO_MANIFEST_DIR"))),
        config: arguments.config.as_ref().map(|path| path.display().to_string()),
        set: arguments.set.clone(),
        device: name_of(compute.device),
        card: match compute.device {
            Device::Cuda(ordinal) => cards().into_iter().nth(ordinal),
            _ => None,
        },
        processor: processor(),
        threads: compute.threads,
        processes: together.size(),
        precision: precision.name().to_owned(),
        images_found: task.source().len() as u64,
        classes: task.source().classes().len(),
    });
    let mut session = Session::new(task, config, run.clone(), state, start)?;
    if let Some(begun) = begun {
        sessions::append(&run.sessions(), &SessionLine::Begun(Box::new(begun)))?;
    }
    let trace = |path| Trace::new(path, arguments.trace_steps.clone());
    session.trace = arguments.trace.clone().filter(|_| leads).map(trace);
    session.deadline = arguments.time_limit.and_then(|limit| Instant::now().checked_add(limit));
    let outcome = train(&mut session)?;
    session.end_trace()?;
    together.leave()?;
    if leads {
        let images_seen = session.state.images_seen;
        let reason = match outcome {
            Outcome::Interrupted { .. } => EndReason::Interrupted,
            Outcome::Finished if images_seen < session.config.train().images => EndReason::TimeIsUp,
            Outcome::Finished => EndReason::Finished,
        };
        let ended = Ended { ended_s: sessions::now_s(), images_seen, reason };
        sessions::append(&run.sessions(), &SessionLine::Ended(ended))?;
    }
    match outcome {
        Outcome::Finished if !leads => Ok(0),
        Outcome::Interrupted { exit_code } if !leads => Ok(exit_code),
        Outcome::Finished => {
            let left = session.config.train().images.saturating_sub(session.state.images_seen);
            if left > 0 {
                eprintln!("the time was up with {} images left; --resume goes on with them", thousands(left));
            }
            eprintln!("done: {}", run.snapshot(session.state.images_seen).display());
            Ok(0)
        }
        Outcome::Interrupted { exit_code } => {
            eprintln!(
                "stopped and saved after {} images; go on with: dim-trainer {command} --run {} --resume",
                thousands(session.state.images_seen),
                run.path().display()
            );
            Ok(exit_code)
        }
    }
}

/// A share of fresh weights that can be seen in pictures.
const MUCH: f64 = 0.01;

fn note_fresh_weights(train: &Train) {
    let share = train.share_of_fresh_weights();
    if train.initial_weights.is_none() && share > MUCH {
        eprintln!(
            "note: train.ema_decay = {} leaves {:.0} % of the fresh weights in the average of a run this short; train.ema_warmup = true mends it",
            train.ema_decay,
            100.0 * share
        );
    }
}

fn folder(arguments: &TrainArgs) -> PathBuf {
    let name = arguments.config.as_ref().and_then(|path| path.file_stem()).unwrap_or_default();
    arguments.run.clone().unwrap_or_else(|| PathBuf::from("runs").join(name))
}

/// Which checkpoint the run goes on from, if from any. Processes that their launcher has started again go on with the run.
fn from_where(arguments: &TrainArgs, run: &RunFolder, launch: Option<&Launch>) -> Result<Option<Which>, TrainerError> {
    let again = started_again(launch);
    Ok(match arguments.resume {
        None if again && checkpoint::list(run)?.is_empty() => None,
        None if again => Some(Which::Newest),
        Some(Which::IfAny) if checkpoint::list(run)?.is_empty() => None,
        other => other,
    })
}

/// Whether the launcher has started the run before, and some process failed.
fn started_again(launch: Option<&Launch>) -> bool {
    launch.is_some_and(|launch| launch.place.attempt > 0)
}

/// What all processes of a run must agree on, in lines.
fn shared<C: RunConfig>(config: &C) -> Result<String, TrainerError> {
    let mut shared = config.clone();
    shared.train_mut().threads = None; // each machine has its own
    shared.to_toml()
}

/// Refuses more processes than have something to do.
fn refuse_idle_processes(train: &Train, launch: Option<&Launch>) -> Result<(), TrainerError> {
    let (size, sharing) = (launch.map_or(1, |launch| launch.place.size), train.distributed.sequence_parallel);
    if !size.is_multiple_of(sharing) {
        return Err(TrainerError::Usage(format!(
            "train.distributed.sequence_parallel must divide the number of processes, {size}, got {sharing}"
        )));
    }
    if size / sharing <= train.batch_size {
        return Ok(());
    }
    let of = if sharing == 1 { String::new() } else { " over train.distributed.sequence_parallel".to_owned() };
    Err(TrainerError::Usage(format!(
        "train.batch_size must be at least the number of processes{of}, {}, got {}",
        size / sharing,
        train.batch_size
    )))
}

/// The configuration of the command line, or, when resuming without one, the run's own.
fn read_config<C: RunConfig>(
    arguments: &TrainArgs,
    resumed: Option<Which>,
    run: &RunFolder,
) -> Result<C, TrainerError> {
    let of_run = run.config();
    if resumed.is_some() && checkpoint::list(run)?.is_empty() {
        return Err(TrainerError::NoCheckpoint {
            path: run.checkpoints(),
            advice: "start the run without `--resume`".to_owned(),
        });
    }
    match &arguments.config {
        None => C::load(&of_run, &arguments.set),
        Some(path) => {
            let mut config = C::load(path, &arguments.set)?;
            if resumed.is_some() && config.train().threads.is_none() && of_run.exists() {
                // The number of threads was chosen when the run began; another one would change the rounding.
                config.train_mut().threads = C::load(&of_run, &[])?.train().threads;
            }
            Ok(config)
        }
    }
}
