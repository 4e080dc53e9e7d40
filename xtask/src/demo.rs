//! `cargo xtask demo`: from a fresh checkout to pictures.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    process::{self, Interrupt},
    setup::{self, Request},
    steps::{Outcome, Steps},
    workspace::Workspace,
};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Throw an earlier demo's run away and train anew
    #[arg(long)]
    fresh: bool,
    /// Use the CPU and its smaller preset although there is a GPU
    #[arg(long)]
    cpu: bool,
}

/// A configuration of the demo and the folder of its run, relative to the root of the checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Preset {
    config: &'static str,
    run: &'static str,
    /// The pictures are shown with pixels of this size.
    enlarge: &'static str,
}

/// Longest time that the demo trains; on a slow machine it then ends with fewer images.
const TIME_LIMIT_MINUTES: &str = "11";

const ON_CPU: Preset = Preset { config: "configs/demo.toml", run: "runs/demo", enlarge: "3" };
const ON_GPU: Preset = Preset { config: "configs/demo-gpu.toml", run: "runs/demo-gpu", enlarge: "1" };

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    let mut preset = ON_CPU;
    steps.run("set-up", || {
        let ready = setup::run(workspace, Request::default(), interrupt)?;
        preset = if ready.gpu && !arguments.cpu { ON_GPU } else { ON_CPU };
        Ok(Outcome::Passed)
    })?;
    let device: &[&str] = if arguments.cpu { &["--device", "cpu"] } else { &[] };
    let run_cargo = |mut command: std::process::Command| {
        println!("$ {}", process::shown(&command));
        process::run(&mut command, interrupt)?;
        Ok(Outcome::Passed)
    };
    steps.run("build", || run_cargo(workspace.cargo(["build", "--release", "-p", "dim-trainer"])))?;

    let start = Start::choose(&workspace.root().join(preset.run), arguments.fresh);
    println!("{}", start.words(preset));
    steps
        .run("train", || {
            if start == Start::Finished {
                return Ok(Outcome::Skipped("the run is finished".to_owned()));
            }
            let mut command = trainer(workspace, "train");
            command.args(["--config", preset.config, "--run", preset.run, "--time-limit", TIME_LIMIT_MINUTES]);
            command.args(start.arguments()).args(device);
            run_cargo(command)
        })
        .inspect_err(|_| println!("`cargo xtask demo` goes on where this stopped, `--fresh` starts over"))?;

    let grid = PathBuf::from(preset.run).join("demo.png");
    steps.run("sample", || {
        let mut command = trainer(workspace, "sample");
        command.args(["--run", preset.run, "--enlarge", preset.enlarge, "--out"]).arg(&grid).args(device);
        run_cargo(command)
    })?;
    steps.print("cargo xtask demo");
    print_ending(&workspace.root().join(grid), preset);
    Ok(())
}

fn trainer(workspace: &Workspace, subcommand: &str) -> std::process::Command {
    workspace.cargo(["run", "--release", "--quiet", "-p", "dim-trainer", "--", subcommand])
}

/// What the training begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    New,
    Resume,
    /// The earlier run was finished: there is nothing to train.
    Finished,
    Over,
}

impl Start {
    fn choose(run: &Path, fresh: bool) -> Self {
        let checkpoint = newest(&run.join("checkpoints"));
        // The trainer writes a snapshot when it is done, under the name of its last checkpoint.
        let snapshot = newest(&run.join("snapshots"));
        match (run.exists(), checkpoint) {
            (false, _) => Self::New,
            (true, _) if fresh => Self::Over,
            // A run that stopped before its first checkpoint has nothing worth keeping.
            (true, None) => Self::Over,
            (true, checkpoint) if checkpoint == snapshot => Self::Finished,
            (true, Some(_)) => Self::Resume,
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::New | Self::Finished => &[],
            Self::Resume => &["--resume"],
            Self::Over => &["--overwrite"],
        }
    }

    fn words(self, Preset { run, .. }: Preset) -> String {
        match self {
            Self::New => format!("\nnew run in {run}"),
            Self::Resume => format!("\n{run} holds an unfinished run: going on with it (`--fresh` starts over)"),
            Self::Finished => format!("\n{run} holds a finished run: sampling from it again (`--fresh` starts over)"),
            Self::Over => format!("\nstarting over in {run}"),
        }
    }
}

/// The file whose name is last in a folder; names are numbers of images with leading zeros.
fn newest(folder: &Path) -> Option<OsString> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    names.filter(|name| !name.as_encoded_bytes().starts_with(b".")).max()
}

fn print_ending(grid: &Path, Preset { config, run, .. }: Preset) {
    println!(
        "
What to try next:
  other pictures      cargo run --release -p dim-trainer -- sample --run {run} --seed 7 --cfg-scale 3 --out more.png
  your own images     copy {config}, and in its [data] put source = \"folder\" and path = \"FOLDER\",
                      with a subfolder of images for each class; then train --config FILE
  the paper's models  cargo run --release -p dim-trainer -- inspect --config configs/imagenet256_h.toml
  the curves          tensorboard --logdir {run}

The pictures: {}",
        grid.display()
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn earlier_run_is_gone_on_with_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("demo");
        let write = |file: &str| fs::write(run.join(file), "").unwrap();
        assert_eq!(Start::choose(&run, false), Start::New);
        assert_eq!(Start::choose(&run, true), Start::New);
        fs::create_dir_all(run.join("checkpoints")).unwrap();
        fs::create_dir_all(run.join("snapshots")).unwrap();
        assert_eq!(Start::choose(&run, false), Start::Over);
        write("checkpoints/000000020000.safetensors");
        write("checkpoints/.000000040000.safetensors.tmp-7");
        assert_eq!(Start::choose(&run, false), Start::Resume);
        write("snapshots/000000020000.safetensors");
        assert_eq!(Start::choose(&run, false), Start::Finished);
        assert_eq!(Start::choose(&run, true), Start::Over);
        write("checkpoints/000000040000.safetensors");
        assert_eq!(Start::choose(&run, false), Start::Resume);
    }
}
