//! `cargo xtask book`: docs/ as one book of HTML.
//!
//! The work is done by the package `xtask-book`, which pulls in mdBook; nobody else compiles it.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    cli::absolute,
    process::{self, Interrupt},
    workspace::Workspace,
};

/// Make one book of HTML of docs/ and what docs/SUMMARY.md names besides; a link to a missing file is an error
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Folder to make; the book begins at html/index.html in it
    #[arg(long, value_name = "DIR", default_value = "target/book")]
    out: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<()> {
    make(workspace, &absolute(&arguments.out)?, interrupt)
}

/// What continuous integration does: the tests of the package, then a book.
pub(crate) fn check(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<()> {
    process::run(&mut workspace.cargo(["test", "--quiet", "-p", "xtask-book"]), interrupt)?;
    make(workspace, &workspace.root().join("target/book"), interrupt)
}

fn make(workspace: &Workspace, out: &Path, interrupt: &Interrupt) -> anyhow::Result<()> {
    let mut command = workspace.cargo(["run", "--quiet", "-p", "xtask-book", "--"]);
    process::run(command.args([workspace.root(), out]), interrupt)?;
    Ok(())
}
