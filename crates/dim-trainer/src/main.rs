//! The program; everything is in the library beside it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use dim_trainer::{cli::Cli, commands};

fn main() -> ExitCode {
    match commands::run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
