//! `dim-trainer train`: from a configuration to a trained network, in one sitting or several.

use std::path::{Path, PathBuf};
use std::time::Instant;

use dim_model::weights::WeightFile;

use crate::cli::{TrainArgs, Which};
use crate::config::{Config, differences};
use crate::device::Compute;
use crate::error::TrainerError;
use crate::files;
use crate::format::thousands;
use crate::run_folder::RunFolder;
use crate::snapshot;
use crate::train::checkpoint;
use crate::train::{Data, Here, Outcome, Session, Start, TrainState, resume, train};

pub(super) fn run(arguments: TrainArgs) -> Result<u8, TrainerError> {
    let run = RunFolder::new(folder(&arguments));
    let mut config = read_config(&arguments, &run)?;
    let compute = Compute::start(arguments.compute, config.train.threads)?;
    config.train.threads = Some(compute.threads);
    let precision = compute.precision(config.train.precision)?;
    let data = Data::open(&config, compute.device, precision)?;

    if arguments.resume.is_none() && !arguments.overwrite {
        run.refuse_existing()?;
    }
    let mut state = TrainState::zeros(&config, compute.device, precision)?;
    let start = match arguments.resume {
        Some(which) => {
            let here = Here { config: &config, data: &data.summary(), accept_changes: arguments.accept_changes };
            resume(&run, which == Which::Older, &here, &mut state)?;
            Start::Resumed
        }
        None => {
            match &config.train.initial_weights {
                Some(path) => {
                    note_other_diffusion(path, &config)?;
                    state.start_from(path)?;
                }
                None => state.initialise(config.train.seed)?,
            }
            run.clear()?; // last, for the initial weights may stand in it
            Start::Fresh
        }
    };
    files::write_bytes_atomically(&run.config(), config.to_toml()?.as_bytes())?;

    eprintln!(
        "{} parameters, {} images of {} classes, on {}; run folder {}",
        thousands(state.network.parameters().iter().map(|(spec, _)| spec.elements() as u64).sum()),
        thousands(data.source().len() as u64),
        data.source().classes().len(),
        compute.describe(),
        run.path().display()
    );
    let mut session = Session::new(config, run.clone(), state, data, start)?;
    session.deadline = arguments.time_limit.and_then(|limit| Instant::now().checked_add(limit));
    match train(&mut session)? {
        Outcome::Finished => {
            let left = session.config.train.images.saturating_sub(session.state.images_seen);
            if left > 0 {
                eprintln!("the time was up with {} images left; --resume goes on with them", thousands(left));
            }
            eprintln!("done: {}", run.snapshot(session.state.images_seen).display());
            Ok(0)
        }
        Outcome::Interrupted { exit_code } => {
            eprintln!(
                "stopped and saved after {} images; go on with: dim-trainer train --run {} --resume",
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
fn read_config(arguments: &TrainArgs, run: &RunFolder) -> Result<Config, TrainerError> {
    let of_run = run.config();
    if arguments.resume.is_some() && checkpoint::list(run)?.is_empty() {
        return Err(TrainerError::NoCheckpoint {
            path: run.checkpoints(),
            advice: "start the run without `--resume`".to_owned(),
        });
    }
    match &arguments.config {
        None => Config::load(&of_run, &arguments.set),
        Some(path) => {
            let mut config = Config::load(path, &arguments.set)?;
            if arguments.resume.is_some() && config.train.threads.is_none() && of_run.exists() {
                // The number of threads was chosen when the run began; another one would change the rounding.
                config.train.threads = Config::load(&of_run, &[])?.train.threads;
            }
            Ok(config)
        }
    }
}

/// Says so if the initial weights, as far as they tell, were trained for another prediction or schedule: the first steps will then teach
/// them anew.
fn note_other_diffusion(path: &Path, config: &Config) -> Result<(), TrainerError> {
    let Some(theirs) = snapshot::config_of(&WeightFile::open(path)?)? else { return Ok(()) };
    for difference in differences(&theirs, config)? {
        if ["diffusion.prediction", "diffusion.schedule"].contains(&difference.key.as_str()) {
            eprintln!("note: the initial weights were trained with another setting: {difference}");
        }
    }
    Ok(())
}
