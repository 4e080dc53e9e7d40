//! `cargo xtask verify`: the trainer compares itself with golden files; its answer is passed on.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::Args;

use crate::{
    cli::absolute,
    process::{self, Interrupt},
    setup::{self, Request},
    workspace::Workspace,
};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Folder with golden files
    #[arg(long, value_name = "DIR")]
    golden: PathBuf,
    /// Also the full-size models: minutes, and gigabytes of memory
    #[arg(long)]
    full: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let golden = absolute(&arguments.golden)?;
    anyhow::ensure!(golden.is_dir(), "there is no folder {}", golden.display());
    setup::run(workspace, Request::default(), interrupt)?;
    let status = process::status(&mut command(workspace, &golden, arguments.full), interrupt)?;
    // A child that a signal ended has no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

pub(crate) fn command(workspace: &Workspace, golden: &std::path::Path, full: bool) -> Command {
    let mut command = workspace.cargo(["run", "--release", "-p", "dim-trainer", "--", "verify", "--golden"]);
    command.arg(golden);
    if full {
        command.arg("--full");
    }
    command
}
