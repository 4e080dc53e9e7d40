//! `cargo xtask …`: set-up, demo, tests, CI and code generation of this repository.
//!
//! Knows no tensor library and has few dependencies, so that it compiles in seconds on a fresh machine; whatever
//! needs libtorch is a child process, started after set-up.

#![forbid(unsafe_code)]

mod artifacts;
mod bench_kernels;
mod bench_scaling;
mod book;
mod bundle;
mod ci;
mod cli;
mod codegen;
mod demo;
mod format;
mod invariants;
mod kernel_resources;
mod process;
mod setup;
mod steps;
mod test;
mod test_gpu;
mod verify;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use process::CommandError;
use setup::SetupError;
use workspace::Workspace;

/// As shells report a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let command = cli::Cli::parse().command;
    match cli::run(command, &Workspace::from_environment()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(mend) = error.downcast_ref::<SetupError>().and_then(SetupError::mend) {
                eprintln!("  mend: {mend}");
            }
            if was_interrupted(&error) { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

fn was_interrupted(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SetupError::Interrupted))
        || matches!(error.downcast_ref(), Some(CommandError::Interrupted))
}
