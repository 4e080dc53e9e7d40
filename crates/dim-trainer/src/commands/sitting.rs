//! One sitting of training, whatever is trained: a new run or one that goes on, from the command line to what is printed at the end.

use std::path::PathBuf;
use std::time::Instant;

use dim_model::Precision;
use tch::Device;

use crate::cli::{TrainArgs, Which};
use crate::config::RunConfig;
use crate::device::Compute;
use crate::error::TrainerError;
use crate::files;
use crate::format::thousands;
use crate::run_folder::RunFolder;
use crate::train::checkpoint::{self, DataSummary};
use crate::train::{Here, Outcome, Session, Start, Task, TrainState, resume, train};

/// Trains what `open` makes of the configuration, on a device in a precision. `command` is what resumes it.
pub(super) fn run<T: Task>(
    command: &str,
    arguments: &TrainArgs,
    open: impl FnOnce(&T::Config, Device, Precision) -> Result<T, TrainerError>,
) -> Result<u8, TrainerError> {
    let run = RunFolder::new(folder(arguments));
    let mut config: T::Config = read_config(arguments, &run)?;
    let compute = Compute::start(arguments.compute, config.train().threads)?;
    config.train_mut().threads = Some(compute.threads);
    let precision = compute.precision(config.train().precision)?;
    let task = open(&config, compute.device, precision)?;

    if arguments.resume.is_none() && !arguments.overwrite {
        run.refuse_existing()?;
    }
    let mut state = TrainState::<T>::zeros(&config, compute.device, precision)?;
    let start = match arguments.resume {
        Some(which) => {
            let data = DataSummary::of(&**task.source());
            let here = Here { config: &config, data: &data, accept_changes: arguments.accept_changes };
            resume(&run, which == Which::Older, &here, &mut state)?;
            Start::Resumed
        }
        None => {
            match &config.train().initial_weights {
                Some(path) => state.start_from(path, &config)?,
                None => state.initialise(config.train().seed)?,
            }
            run.clear()?; // last, for the initial weights may stand in it
            Start::Fresh
        }
    };
    files::write_bytes_atomically(&run.config(), config.to_toml()?.as_bytes())?;

    eprintln!(
        "{} parameters, {} images of {} classes, on {}; run folder {}",
        thousands(T::parameters(&state.network).iter().map(|(spec, _)| spec.elements() as u64).sum()),
        thousands(task.source().len() as u64),
        task.source().classes().len(),
        compute.describe(),
        run.path().display()
    );
    let mut session = Session::new(task, config, run.clone(), state, start)?;
    session.deadline = arguments.time_limit.and_then(|limit| Instant::now().checked_add(limit));
    match train(&mut session)? {
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

fn folder(arguments: &TrainArgs) -> PathBuf {
    let name = arguments.config.as_ref().and_then(|path| path.file_stem()).unwrap_or_default();
    arguments.run.clone().unwrap_or_else(|| PathBuf::from("runs").join(name))
}

/// The configuration of the command line, or, when resuming without one, the run's own.
fn read_config<C: RunConfig>(arguments: &TrainArgs, run: &RunFolder) -> Result<C, TrainerError> {
    let of_run = run.config();
    if arguments.resume.is_some() && checkpoint::list(run)?.is_empty() {
        return Err(TrainerError::NoCheckpoint {
            path: run.checkpoints(),
            advice: "start the run without `--resume`".to_owned(),
        });
    }
    match &arguments.config {
        None => C::load(&of_run, &arguments.set),
        Some(path) => {
            let mut config = C::load(path, &arguments.set)?;
            if arguments.resume.is_some() && config.train().threads.is_none() && of_run.exists() {
                // The number of threads was chosen when the run began; another one would change the rounding.
                config.train_mut().threads = C::load(&of_run, &[])?.train().threads;
            }
            Ok(config)
        }
    }
}
