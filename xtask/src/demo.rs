//! `cargo xtask demo`: from a fresh checkout to pictures.

use std::{
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
}

const ON_CPU: Preset = Preset { config: "configs/demo.toml", run: "runs/demo" };
const ON_GPU: Preset = Preset { config: "configs/demo-gpu.toml", run: "runs/demo-gpu" };

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
            let mut command = trainer(workspace, "train");
            command.args(["--config", preset.config, "--run", preset.run]).args(start.arguments()).args(device);
            run_cargo(command)
        })
        .inspect_err(|_| println!("`cargo xtask demo` goes on where this stopped, `--fresh` starts over"))?;

    let grid = PathBuf::from(preset.run).join("demo.png");
    steps.run("sample", || {
        let mut command = trainer(workspace, "sample");
        command.args(["--run", preset.run, "--out"]).arg(&grid).args(device);
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
    /// Nothing is left to do if the earlier run was finished; the trainer knows.
    Resume,
    Over,
}

impl Start {
    fn choose(run: &Path, fresh: bool) -> Self {
        let has_checkpoint = fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some());
        match (fresh, has_checkpoint) {
            (true, _) if run.exists() => Self::Over,
            (_, true) => Self::Resume,
            // A run that stopped before its first checkpoint has nothing worth keeping.
            _ if run.exists() => Self::Over,
            _ => Self::New,
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::New => &[],
            Self::Resume => &["--resume"],
            Self::Over => &["--overwrite"],
        }
    }

    fn words(self, preset: Preset) -> String {
        let run = preset.run;
        match self {
            Self::New => format!("\nnew run in {run}"),
            Self::Resume => {
                format!("\n{run} holds an earlier run: going on with it (`cargo xtask demo --fresh` starts over)")
            }
            Self::Over => format!("\nstarting over in {run}"),
        }
    }
}

fn print_ending(grid: &Path, preset: Preset) {
    let Preset { config, run } = preset;
    println!(
        "
What to try next:
  cargo run --release -p dim-trainer -- sample --run {run} --out more.png     other pictures; see `sample --help`
  cargo run --release -p dim-trainer -- train --config {config} --set train.batch_size=8 --run runs/mine
  cargo run --release -p dim-trainer -- inspect --config configs/imagenet256-h.toml
  tensorboard --logdir {run}

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
        assert_eq!(Start::choose(&run, false), Start::New);
        assert_eq!(Start::choose(&run, true), Start::New);
        fs::create_dir_all(run.join("checkpoints")).unwrap();
        assert_eq!(Start::choose(&run, false), Start::Over);
        fs::write(run.join("checkpoints/000000012800.safetensors"), "").unwrap();
        assert_eq!(Start::choose(&run, false), Start::Resume);
        assert_eq!(Start::choose(&run, true), Start::Over);
    }
}
