//! `cargo xtask format`: Rust by rustfmt, C++ and CUDA by the pinned clang-format.

use std::process::Command;

use crate::{
    invariants::Tree,
    process::{self, Interrupt},
    setup::{self, Request},
    workspace::Workspace,
};

const ENDINGS_OF_CPP: [&str; 5] = [".c", ".h", ".cpp", ".cu", ".cuh"];

/// Formats every tracked source; with `check`, changes nothing and fails if there is something to change.
pub(crate) fn run(workspace: &Workspace, check: bool, interrupt: &Interrupt) -> anyhow::Result<()> {
    setup::run(workspace, Request { clang_format: true, ..Request::default() }, interrupt)?;
    let mut rustfmt = workspace.cargo(["fmt", "--all"]);
    if check {
        rustfmt.arg("--check");
    }
    process::run(&mut rustfmt, interrupt)?;

    let mut clang_format = Command::new(workspace.site().join("clang_format/data/bin/clang-format"));
    clang_format.current_dir(workspace.root());
    clang_format.args(if check { ["--dry-run", "--Werror"].as_slice() } else { &["-i"] });
    let tree = Tree::tracked(workspace.root())?;
    clang_format.args(tree.paths().filter(|path| ENDINGS_OF_CPP.iter().any(|ending| path.ends_with(ending))));
    process::run(&mut clang_format, interrupt)?;
    Ok(())
}
