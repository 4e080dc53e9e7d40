//! `cargo xtask test-gpu`: every test of the GPU, by the very script that a bundle runs them with.

use std::process::Command;

use clap::Args;

use crate::{
    bundle,
    process::{self, Interrupt},
    setup::{self, Request},
    workspace::Workspace,
};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Run them under compute-sanitizer: memcheck, racecheck and initcheck
    #[arg(long)]
    sanitizer: bool,
    /// Only tests with this in their names
    filter: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<()> {
    setup::run(workspace, Request::default(), interrupt)?;
    let tests = bundle::gpu_tests(workspace, interrupt)?;
    let folder = workspace.root().join("target/gpu-tests");
    bundle::link_tests(workspace, &tests, &folder)?;
    let mut command = Command::new(folder.join("run"));
    command.arg("tests");
    if arguments.sanitizer {
        command.arg("--sanitizer");
    }
    command.args(&arguments.filter).env("LIBTORCH", workspace.libtorch());
    process::run(&mut command, interrupt)?;
    Ok(())
}
