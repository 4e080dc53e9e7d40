//! `cargo xtask bench-scaling`: builds the program that times whole networks against each other, and hands it the arguments.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::Context;
use clap::Args;

use crate::{
    artifacts,
    process::{self, Interrupt},
    setup::{self, Request},
    workspace::Workspace,
};

const PROGRAM: &str = "bench-scaling";

/// The arguments are the program's: `cargo xtask bench-scaling --help` is its help.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// --quick, --config FILE, --out DIR, --resume, --compare FILE and more: see --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    setup::run(workspace, Request::default(), interrupt)?;
    let built = artifacts::build(workspace, ["build", "--release", "-p", "dim-bench", "--bin", PROGRAM], interrupt)?;
    let program = built.programs.iter().find(|program| program.name == PROGRAM);
    let program = program.with_context(|| format!("cargo built no program {PROGRAM}"))?;
    // In the folder where the command was typed, which relative paths among the arguments mean.
    let mut command = Command::new(&program.path);
    command.args(&arguments.arguments);
    if !names_a_folder(&arguments.arguments) {
        command.arg("--out").arg(workspace.root().join("target").join(PROGRAM));
    }
    let status = process::status(&mut command, interrupt)?;
    // A child that a signal ended has no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn names_a_folder(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument.to_str().is_some_and(|text| text == "--out" || text.starts_with("--out=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_go_to_the_target_folder_unless_told_otherwise() {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        assert!(!names_a_folder(&words("--quick --only DiM")));
        assert!(names_a_folder(&words("--quick --out here")));
        assert!(names_a_folder(&words("--out=here --resume")));
        assert!(!names_a_folder(&words("--outer")));
    }
}
