//! `cargo xtask bench-kernels`: times the CUDA kernels, and compares runs.

mod compare;
mod run_file;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use crate::{
    cli::absolute,
    process::{self, Interrupt},
    setup::{self, Request},
    workspace::Workspace,
};
use compare::Comparison;
use run_file::Timing;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Keep the timings in this file, as lines of JSON; by default target/bench-kernels.jsonl
    #[arg(long, value_name = "FILE", conflicts_with = "with")]
    out: Option<PathBuf>,
    /// Compare with this earlier run; fail if something became slower
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// With --compare: time nothing, compare this run instead
    #[arg(long, value_name = "FILE", requires = "compare")]
    with: Option<PathBuf>,
    /// Time only what has this in its name, such as selective_scan/forward
    #[arg(long, value_name = "TEXT", conflicts_with = "with")]
    only: Option<String>,
    /// Slower by more than so many hundredths, and beyond both runs' spreads, is a failure
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    margin: f64,
    /// Compare although the runs are of different cards
    #[arg(long)]
    force: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|percent| (0.0..=1000.0).contains(percent));
    number.ok_or_else(|| "expected a number from 0 to 1000".to_owned())
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    // Read before minutes are spent on timing: it may be missing or broken.
    let old = arguments.compare.as_deref().map(read).transpose()?;
    let new = match &arguments.with {
        Some(path) => read(path)?,
        None => read(&time(workspace, arguments, interrupt)?)?,
    };
    let Some(old) = old else { return Ok(ExitCode::SUCCESS) };
    let comparison = Comparison::new(&old, &new, arguments.margin / 100.0, arguments.force)?;
    print!("{}", comparison.table());
    Ok(if comparison.has_regressions() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(path: &Path) -> anyhow::Result<Vec<Timing>> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| anyhow::anyhow!("cannot read {shown}: {error}"))?;
    run_file::parse(&text).map_err(|error| anyhow::anyhow!("{shown}: {error}"))
}

/// Runs the benchmarks; returns the file of results.
fn time(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(
        setup::has_gpu(),
        "this machine has no NVIDIA GPU, and kernels are timed on one; \
         two runs are compared anywhere: cargo xtask bench-kernels --compare OLD --with NEW"
    );
    setup::run(workspace, Request { nvcc: true, ..Request::default() }, interrupt)?;
    let out = match &arguments.out {
        Some(path) => absolute(path)?,
        None => workspace.root().join("target/bench-kernels.jsonl"),
    };
    let mut command = workspace.cargo(["bench", "-p", "dim-bench", "--bench", "cuda", "--", "--out"]);
    command.arg(&out);
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    println!("$ {}", process::shown(&command));
    process::run(&mut command, interrupt)?;
    println!("timings: {}", out.display());
    Ok(out)
}
