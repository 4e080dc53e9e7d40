//! `cargo xtask ci`: everything that a change must pass, quick steps first, stopping at the first that fails.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::{
    book, codegen, format, invariants, kernel_resources,
    process::{self, Interrupt},
    setup::{self, Request},
    steps::{Outcome, Steps},
    verify,
    workspace::Workspace,
};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Run only these steps
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Leave these steps out
    #[arg(long, value_name = "STEP")]
    skip: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// libtorch, the demo's images, nvcc, libclang, clang-format
    Setup,
    /// rustfmt and clang-format
    Format,
    /// The rules of the architecture
    Invariants,
    /// Generated Rust equals what the headers say
    Codegen,
    /// Every CUDA source compiles, and no kernel takes more than kernels/resources.tsv says, where nvcc could be had
    Kernels,
    /// clippy, warnings are errors
    Lints,
    /// rustdoc, warnings are errors
    Docs,
    /// docs/ as a book, in which every link holds
    Book,
    /// Licences and advisories of the dependencies, where cargo-deny is installed
    Deny,
    /// The repository's golden files
    Golden,
    /// cargo xtask test
    Tests,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    for step in arguments.steps() {
        let name = step.name();
        if let Err(error) = steps.run(&name, || step.run(workspace, interrupt)) {
            steps.print("cargo xtask ci");
            return Err(if interrupt.came() {
                error
            } else {
                // The step's own error is printed with this one, and main looks through it for a mend.
                error.context(format!("step `{name}` failed; repeat it with `cargo xtask ci --only {name}`"))
            });
        }
    }
    steps.print("cargo xtask ci");
    println!("all steps passed");
    Ok(())
}

impl Arguments {
    fn steps(&self) -> impl Iterator<Item = Step> {
        let chosen = |step: &Step| self.only.is_empty() || self.only.contains(step);
        let left_out = |step: &Step| self.skip.contains(step);
        Step::value_variants().iter().copied().filter(move |step| chosen(step) && !left_out(step))
    }
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn run(self, workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<Outcome> {
        let run = |mut command: Command| {
            println!("$ {}", process::shown(&command));
            process::run(&mut command, interrupt)?;
            Ok(Outcome::Passed)
        };
        match self {
            Self::Setup => {
                let request = Request { nvcc: true, libclang: true, clang_format: true, ..Request::default() };
                setup::run(workspace, request, interrupt)?;
                Ok(Outcome::Passed)
            }
            Self::Format => format::run(workspace, true, interrupt).map(|()| Outcome::Passed),
            Self::Lints => {
                run(workspace.cargo(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]))
            }
            Self::Docs => {
                let mut command = workspace.cargo(["doc", "--release", "--workspace", "--no-deps"]);
                command.env("RUSTDOCFLAGS", "-D warnings");
                run(command)
            }
            Self::Book => book::check(workspace, interrupt).map(|()| Outcome::Passed),
            Self::Invariants => invariants::run(workspace).map(|()| Outcome::Passed),
            Self::Kernels if !workspace.site().join("nvidia/cu13/bin/nvcc").exists() => {
                Ok(Outcome::Skipped("nvcc is not installed".to_owned()))
            }
            // The package's build script calls nvcc.
            Self::Kernels => kernel_resources::check(workspace, interrupt).map(|()| Outcome::Passed),
            Self::Codegen => codegen::run(workspace, true, interrupt).map(|()| Outcome::Passed),
            Self::Deny if !setup::is_program("cargo-deny") => {
                Ok(Outcome::Skipped("cargo-deny is not installed".to_owned()))
            }
            Self::Deny => run(workspace.cargo(["deny", "check", "licenses", "bans", "sources"])),
            Self::Golden => run(verify::command(workspace, &workspace.root().join("golden"), false)),
            Self::Tests => run(workspace.cargo(["xtask", "test"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(only: &[Step], skip: &[Step]) -> Vec<Step> {
        Arguments { only: only.to_vec(), skip: skip.to_vec() }.steps().collect()
    }

    #[test]
    fn all_steps_run_unless_told_otherwise() {
        assert_eq!(steps(&[], &[]), Step::value_variants());
        assert_eq!(steps(&[Step::Docs, Step::Format], &[]), [Step::Format, Step::Docs]);
        assert!(!steps(&[], &[Step::Tests]).contains(&Step::Tests));
        assert!(steps(&[Step::Tests], &[Step::Tests]).is_empty());
    }
}
