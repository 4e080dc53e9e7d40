//! `cargo xtask kernel-resources`: registers, spills and shared memory of every kernel, beside `kernels/resources.tsv`.
//!
//! Flow: the build script of dim-kernels leaves the assembler's words beside the fat binaries, [`ptxas`] reads them,
//! [`table`] the committed file, [`compare`] says what has become worse. Nothing is compiled twice.

mod compare;
mod ptxas;
mod table;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;

use crate::{
    artifacts,
    process::Interrupt,
    setup::{self, Request},
    workspace::Workspace,
};

const PACKAGE: &str = "dim-kernels";
const TABLE: &str = "kernels/resources.tsv";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Write the table anew
    #[arg(long, conflicts_with = "check")]
    update: bool,
    /// Fail if a kernel has become worse beyond the margins, or is not in the table (what happens without --update)
    #[arg(long)]
    check: bool,
}

/// A kernel on an architecture, as `selective_scan_fwd_bf16_n16` on `90a`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kernel: String,
    pub(crate) architecture: Architecture,
}

/// `90a`: a number, and perhaps a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Architecture {
    number: u32,
    letter: String,
}

/// What a kernel takes, by the assembler's account. Shared memory that is asked for at launch is not part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Of a thread.
    pub(crate) registers: u32,
    /// Stores and loads of registers that did not suffice, of a thread.
    pub(crate) spill_bytes: u32,
    /// Local memory of a thread: spills, and arrays that are indexed at run time.
    pub(crate) stack_bytes: u32,
    /// Of a block.
    pub(crate) shared_bytes: u32,
}

pub(crate) type Kernels = BTreeMap<Key, Resources>;

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<()> {
    setup::run(workspace, Request { nvcc: true, ..Request::default() }, interrupt)?;
    if arguments.update { update(workspace, interrupt) } else { check(workspace, interrupt) }
}

fn update(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<()> {
    let built = build(workspace, interrupt)?;
    let path = workspace.root().join(TABLE);
    fs::write(&path, table::write(&built)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{TABLE}: {} kernels written", count(&built));
    Ok(())
}

/// Builds the kernels and fails if one has become worse than the table says.
pub(crate) fn check(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<()> {
    let built = build(workspace, interrupt)?;
    let path = workspace.root().join(TABLE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let committed = table::read(&text).with_context(|| format!("{TABLE} is damaged"))?;
    let differences = compare::compare(&committed, &built);
    differences.better.iter().for_each(|line| println!("better: {line}"));
    if !differences.worse.is_empty() {
        differences.worse.iter().for_each(|line| eprintln!("worse: {line}"));
        anyhow::bail!(
            "{} against {TABLE}; mend the kernels or, if that is how it should be, \
             run `cargo xtask kernel-resources --update` and say in the commit why",
            match differences.worse.len() {
                1 => "one regression".to_owned(),
                several => format!("{several} regressions"),
            }
        );
    }
    println!("{TABLE}: {} kernels, none worse beyond the margins ({})", count(&built), compare::MARGINS);
    Ok(())
}

/// Builds the kernels and reads what the assembler said of them.
fn build(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<Kernels> {
    let built = artifacts::build(workspace, ["build", "--release", "-p", PACKAGE], interrupt)?;
    let output = built.outputs.into_iter().find(|(package, _)| package == PACKAGE);
    let (_, output) = output.context("cargo did not say where the kernels are")?;
    let mut logs = logs(&output).with_context(|| format!("cannot look into {}", output.display()))?;
    // A source that is gone has left its parts behind; the fat binaries in use are those that images.rs names.
    let images = fs::read_to_string(output.join("images.rs"))?;
    logs.retain(|log| {
        let source = log.with_extension("").with_extension("fatbin");
        images.contains(&*source.to_string_lossy())
    });
    let mut kernels = Kernels::new();
    for log in logs {
        let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        kernels.extend(ptxas::parse(&text).with_context(|| format!("cannot make sense of {}", log.display()))?);
    }
    anyhow::ensure!(
        !kernels.is_empty(),
        "dim-kernels was built without kernels; is DIM_CUDA_ARCHS=none, or could nvcc not be installed?"
    );
    Ok(kernels)
}

/// The logs `<operation>/<name>.<family>.log` of the build script.
fn logs(output: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for folder in fs::read_dir(output)? {
        let folder = folder?.path();
        if folder.is_dir() {
            for file in fs::read_dir(folder)? {
                logs.push(file?.path());
            }
        }
    }
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    Ok(logs)
}

fn count(kernels: &Kernels) -> usize {
    let mut names: Vec<_> = kernels.keys().map(|key| &key.kernel).collect();
    names.dedup();
    names.len()
}

impl std::str::FromStr for Architecture {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, letter) = text.split_at(digits);
        let number = number.parse().with_context(|| format!("`{text}` is no architecture"))?;
        Ok(Self { number, letter: letter.to_owned() })
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.number, self.letter)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on sm_{}", self.kernel, self.architecture)
    }
}

#[cfg(test)]
pub(crate) fn key(kernel: &str, architecture: &str) -> Key {
    #![allow(clippy::unwrap_used)]
    Key { kernel: kernel.to_owned(), architecture: architecture.parse().unwrap() }
}
