//! `cargo xtask codegen`: the kernels' C parameter structs, as Rust.
//!
//! The work is done by the package `xtask-codegen`, which pulls in bindgen; nobody who only builds, tests or trains
//! compiles it.

use std::process::Command;

use crate::{
    process::{self, Interrupt},
    setup::{self, Request},
    workspace::Workspace,
};

pub(crate) fn run(workspace: &Workspace, check: bool, interrupt: &Interrupt) -> anyhow::Result<()> {
    setup::run(workspace, Request { libclang: true, ..Request::default() }, interrupt)?;
    process::run(&mut command(workspace, check), interrupt)?;
    Ok(())
}

fn command(workspace: &Workspace, check: bool) -> Command {
    let mut command = workspace.cargo(["run", "--quiet", "-p", "xtask-codegen", "--"]);
    command.arg(workspace.root());
    if check {
        command.arg("--check");
    }
    command.env("LIBCLANG_PATH", workspace.site().join("clang/native"));
    command
}
