//! `dim-trainer train`: from a configuration to a trained network, in one sitting or several.

use std::path::PathBuf;
use std::sync::Arc;

use dim_data::ImageSource;

use crate::cli::{TrainArgs, Which};
use crate::config::{Config, Difference, Effect, differences};
use crate::device::Compute;
use crate::error::TrainerError;
use crate::files;
use crate::format::thousands;
use crate::run_folder::RunFolder;
use crate::train::checkpoint::{self, About};
use crate::train::{Outcome, Session, Start, TrainState, train};

pub(super) fn run(arguments: TrainArgs) -> Result<u8, TrainerError> {
    let run = RunFolder::new(folder(&arguments));
    let mut config = read_config(&arguments, &run)?;
    let compute = Compute::start(arguments.compute, config.train.threads)?;
    config.train.threads = Some(compute.threads);
    let precision = compute.precision(config.train.precision)?;
    let source = open_data(&config)?;

    let mut state = TrainState::zeros(&config, compute.device, precision)?;
    let start = match arguments.resume {
        Some(which) => {
            resume(&run, which, arguments.accept_changes, &config, &mut state)?;
            run.create_folders()?;
            Start::Resumed
        }
        None => {
            match &config.train.initial_weights {
                Some(path) => state.start_from(path)?,
                None => state.initialise(config.train.seed)?,
            }
            run.create(arguments.overwrite)?;
            Start::Fresh
        }
    };
    files::write_bytes_atomically(&run.config(), config.to_toml()?.as_bytes())?;

    eprintln!(
        "{} parameters, {} images of {} classes, on {}; run folder {}",
        thousands(state.dim.parameters().iter().map(|(spec, _)| spec.elements() as u64).sum()),
        thousands(source.len() as u64),
        source.classes().len(),
        compute.describe(),
        run.path().display()
    );
    let mut session = Session::new(config, run.clone(), state, source, start)?;
    match train(&mut session)? {
        Outcome::Finished => {
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

fn open_data(config: &Config) -> Result<Arc<dyn ImageSource>, TrainerError> {
    if config.autoencoder.is_some() {
        let (size, data) = (config.model.image_size, config.data_size());
        return Err(TrainerError::Unsupported(format!(
            "this configuration trains on {size} x {size} latents of {data} x {data} images, and turning pixels into latents is not available yet; \
             without the section [autoencoder] the network trains on images of {size} x {size} pixels"
        )));
    }
    let source = dim_data::open(&config.data, config.model.image_size)?;
    for note in source.notes() {
        eprintln!("note: {note}");
    }
    let (found, known) = (source.classes().len(), config.model.classes);
    if found > known && !config.unconditional() {
        let problem =
            format!("`model.classes` must be at least {found}, the number of classes of the data, got {known}");
        return Err(TrainerError::ConfigValues { origin: "with these data".to_owned(), problems: vec![problem] });
    }
    Ok(source)
}

/// Loads the state from the newest checkpoint, or with [`Which::Older`] from the newest that reads well.
fn resume(
    run: &RunFolder,
    which: Which,
    accept_changes: bool,
    config: &Config,
    state: &mut TrainState,
) -> Result<(), TrainerError> {
    let mut candidates = checkpoint::list(run)?;
    let mut bad: Vec<PathBuf> = Vec::new();
    while let Some(path) = candidates.pop() {
        match checkpoint::load(&path, state, |about| accept(about, &path, accept_changes, config)) {
            Ok(about) => {
                for path in &bad {
                    let aside = checkpoint::set_aside(path)?;
                    eprintln!("warning: a checkpoint that does not read was renamed to {}", aside.display());
                }
                eprintln!("resumed after {} images from {}", thousands(about.images_seen), path.display());
                return Ok(());
            }
            Err(error) if which == Which::Older && error.is_bad_checkpoint() => {
                eprintln!("warning: {error}");
                bad.push(path);
            }
            Err(error) => {
                return Err(if error.is_bad_checkpoint() {
                    error.offering(checkpoint::newest_good_before(run, &path))
                } else {
                    error
                });
            }
        }
    }
    Err(TrainerError::NoCheckpoint {
        path: run.checkpoints(),
        advice: "none of its checkpoints reads well; start again with `--overwrite`".to_owned(),
    })
}

/// Whether a run may go on from this checkpoint under this configuration; says what will differ.
fn accept(about: &About, path: &std::path::Path, accept_changes: bool, config: &Config) -> Result<(), TrainerError> {
    let all = differences(&about.config, config)?;
    let with =
        |effect: Effect| all.iter().filter(move |difference| difference.effect() == effect).map(Difference::to_string);
    let shapes: Vec<String> = with(Effect::Shapes).collect();
    let trajectory: Vec<String> = with(Effect::Trajectory).collect();
    let other = |differences, advice: &str| TrainerError::OtherConfig {
        path: path.to_owned(),
        differences,
        advice: advice.to_owned(),
    };
    if !shapes.is_empty() {
        return Err(other(shapes, "Another network needs another run: choose another folder with `--run`."));
    }
    if !trajectory.is_empty() && !accept_changes {
        return Err(other(
            trajectory,
            "Resume with the old values, or pass `--accept-changes` to go on with the new ones.",
        ));
    }
    for difference in trajectory {
        eprintln!("note: changed: {difference}");
    }
    for difference in with(Effect::Rounding) {
        eprintln!("note: changed: {difference}; the results will agree to rounding, not bit for bit");
    }
    Ok(())
}
