//! `cargo xtask test`: set-up, then every test of the workspace.

use std::process::{Command, Stdio};

use crate::{
    process::{self, Interrupt},
    setup::{self, Request},
    steps::{Outcome, Steps},
    workspace::{WITHOUT_TOOLS, Workspace},
};

pub(crate) fn run(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<()> {
    setup::run(workspace, Request::default(), interrupt)?;
    let mut steps = Steps::default();
    let nextest = has_nextest(workspace);
    // Doctests are run even when tests failed: one run then shows everything there is to mend.
    let mut passed = true;
    for (name, mut command) in commands(workspace, nextest) {
        let result = steps.run(name, || {
            println!("$ {}", process::shown(&command));
            process::run(&mut command, interrupt)?;
            Ok(Outcome::Passed)
        });
        if let Err(error) = result {
            if interrupt.came() {
                return Err(error);
            }
            println!("{error}");
            passed = false;
        }
    }
    steps.print("cargo xtask test");
    anyhow::ensure!(passed, "tests failed, see above");
    println!("all tests passed");
    Ok(())
}

fn has_nextest(workspace: &Workspace) -> bool {
    let mut command = workspace.cargo(["nextest", "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// nextest runs tests of all packages side by side, but knows no doctests.
fn commands(workspace: &Workspace, nextest: bool) -> Vec<(&'static str, Command)> {
    let mut tests = if nextest {
        workspace.cargo(["nextest", "run", "--release", "--workspace", "--no-fail-fast"])
    } else {
        workspace.cargo(["test", "--release", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])
    };
    tests.args(WITHOUT_TOOLS);
    let mut doctests = workspace.cargo(["test", "--release", "--workspace", "--doc"]);
    doctests.args(WITHOUT_TOOLS);
    vec![("tests", tests), ("doctests", doctests)]
}
