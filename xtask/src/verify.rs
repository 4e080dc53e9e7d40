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
    /// Where networks and scan run: cpu or cuda:N
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// f32, or, on a GPU, bf16
    #[arg(long, default_value = "f32", value_name = "PRECISION")]
    precision: String,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let golden = absolute(&arguments.golden)?;
    anyhow::ensure!(golden.is_dir(), "there is no folder {}", golden.display());
    setup::run(workspace, Request::default(), interrupt)?;
    let mut command = command(workspace, &golden, arguments.full);
    command.args(["--device", &arguments.device, "--precision", &arguments.precision]);
    let status = process::status(&mut command, interrupt)?;
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
