//! `cargo xtask bundle`: programs, tests and benchmarks for a machine without cargo, such as a node of a cluster.
//!
//! Layout, which `run.sh` knows too: `run`, `bin/dim-trainer`, `bin/bench-scaling`, `tests/<package>/<program>`, `benches/<program>`,
//! `configs/`, `golden/`.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use clap::Args;

use crate::{
    artifacts::{self, Program},
    cli::absolute,
    process::{self, Interrupt},
    setup::{self, Request},
    workspace::{WITHOUT_TOOLS, Workspace},
};

const RUN: &str = include_str!("run.sh");

/// Integration tests of this name need a GPU, in whatever package they are.
const GPU_TESTS: &str = "cuda_*";

/// Gather programs, GPU tests and benchmarks for a machine with libtorch 2.11.0 but without Rust (docs/cluster.md)
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Folder to make; an earlier bundle there is replaced
    #[arg(long, value_name = "DIR", default_value = ".bundle")]
    out: PathBuf,
    /// Leave the golden files out, which nothing but tests and `dim-trainer verify` reads
    #[arg(long)]
    no_golden: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<()> {
    let out = absolute(&arguments.out)?;
    clear(&out)?;
    setup::run(workspace, Request { nvcc: true, ..Request::default() }, interrupt)?;
    let trainer = artifacts::build(workspace, ["build", "--release", "-p", "dim-trainer"], interrupt)?.programs;
    let scaling = ["build", "--release", "-p", "dim-bench", "--bin", "bench-scaling"];
    let scaling = artifacts::build(workspace, scaling, interrupt)?.programs;
    let tests = gpu_tests(workspace, interrupt)?;
    let benches = ["bench", "--no-run", "-p", "dim-bench"];
    let benches = artifacts::build(workspace, benches, interrupt)?.programs;
    anyhow::ensure!(!tests.is_empty(), "no package has integration tests named {GPU_TESTS}");

    let wanted = ["dim-trainer", "bench-scaling"];
    for program in trainer.iter().chain(&scaling).filter(|program| wanted.contains(&program.name.as_str())) {
        place(program, &out.join("bin"), interrupt)?;
    }
    for program in &tests {
        place(program, &out.join("tests").join(&program.package), interrupt)?;
    }
    // `cargo bench` builds the package's programs, too.
    for program in benches.iter().filter(|program| !wanted.contains(&program.name.as_str())) {
        place(program, &out.join("benches"), interrupt)?;
    }
    copy(&workspace.root().join("configs"), &out.join("configs"))?;
    if !arguments.no_golden {
        copy(&workspace.root().join("golden"), &out.join("golden"))?;
    }
    write_run(&out)?;
    report(&out)
}

/// Builds the tests that need a GPU.
pub(crate) fn gpu_tests(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<Vec<Program>> {
    let [a, b, c, d] = WITHOUT_TOOLS;
    let arguments = ["test", "--release", "--no-run", "--workspace", a, b, c, d, "--test", GPU_TESTS];
    let mut programs = artifacts::build(workspace, arguments, interrupt)?.programs;
    // Cargo also builds the programs of packages that have such tests.
    programs.retain(|program| program.name.starts_with(GPU_TESTS.trim_end_matches('*')));
    Ok(programs)
}

/// Lays the tests out as a bundle of nothing else, with links in place of copies.
pub(crate) fn link_tests(workspace: &Workspace, tests: &[Program], out: &Path) -> anyhow::Result<()> {
    clear(out)?;
    for program in tests {
        let folder = out.join("tests").join(&program.package);
        fs::create_dir_all(&folder)?;
        std::os::unix::fs::symlink(&program.path, folder.join(&program.name))?;
    }
    std::os::unix::fs::symlink(workspace.root().join("golden"), out.join("golden"))?;
    write_run(out)
}

/// Removes an earlier bundle, and refuses to remove anything else.
fn clear(out: &Path) -> anyhow::Result<()> {
    let mut entries = match fs::read_dir(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot look into {}", out.display()))?,
    };
    anyhow::ensure!(
        entries.next().is_none() || out.join("run").is_file(),
        "{} holds something that is no bundle; it is left alone",
        out.display()
    );
    fs::remove_dir_all(out).with_context(|| format!("cannot clear {}", out.display()))
}

/// Copies a program without its debug information.
fn place(program: &Program, folder: &Path, interrupt: &Interrupt) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut strip = Command::new("strip");
    process::run(strip.arg("-o").arg(folder.join(&program.name)).arg(&program.path), interrupt)
        .context("programs are stripped by `strip`, which comes with the C++ compiler (binutils)")
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn write_run(out: &Path) -> anyhow::Result<()> {
    let path = out.join("run");
    fs::write(&path, RUN)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn report(out: &Path) -> anyhow::Result<()> {
    let mut total = 0;
    for part in ["bin", "tests", "benches", "configs", "golden"] {
        let bytes = size(&out.join(part))?;
        total += bytes;
        println!("{part:8} {:6.1} MiB", mib(bytes));
    }
    println!("in all   {:6.1} MiB in {}; `./run` there says how to go on", mib(total), out.display());
    Ok(())
}

fn size(path: &Path) -> io::Result<u64> {
    if !path.exists() {
        return Ok(0);
    }
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_bundle_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        clear(&out).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(out.join("thesis.tex"), "").unwrap();
        assert!(clear(&out).unwrap_err().to_string().contains("no bundle"));
        write_run(&out).unwrap();
        clear(&out).unwrap();
        assert!(!out.exists());
    }

    #[test]
    fn run_is_a_sound_script_that_says_how_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path()).unwrap();
        let output = Command::new(folder.path().join("run")).arg("--help").output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("./run tests [--sanitizer]"));
    }

    /// A bundle whose only test program is a shell script, and a libtorch that is none.
    fn run_tests(script: &str, arguments: &[&str]) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let (bundle, torch) = (folder.path().join("bundle"), folder.path().join("torch"));
        fs::create_dir_all(bundle.join("tests/dim-kernels")).unwrap();
        fs::create_dir_all(torch.join("lib")).unwrap();
        fs::write(torch.join("lib/libtorch_cpu.so"), "").unwrap();
        fs::write(torch.join("version.py"), "__version__ = '2.11.0+cu130'\n").unwrap();
        let test = bundle.join("tests/dim-kernels/cuda_scan");
        fs::write(&test, script).unwrap();
        fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).unwrap();
        write_run(&bundle).unwrap();
        let mut command = Command::new(bundle.join("run"));
        let output = command
            .arg("tests")
            .args(arguments)
            .env("LIBTORCH", &torch)
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn tests_run_in_their_folder_with_libtorch_to_be_found() {
        let script = "#!/bin/sh\n[ \"$PWD\" = \"$CARGO_MANIFEST_DIR\" ] && echo \"at $PWD with $LD_LIBRARY_PATH: $1\"";
        let (passed, output) = run_tests(script, &["odd"]);
        assert!(passed, "{output}");
        assert!(output.contains("bundle/tests/dim-kernels with ") && output.contains("torch/lib: odd"), "{output}");
        assert!(output.contains("all GPU tests passed"), "{output}");
    }

    #[test]
    fn a_failing_test_program_is_named_at_the_end() {
        let (passed, output) = run_tests("#!/bin/sh\nexit 3", &[]);
        assert!(!passed);
        assert!(output.ends_with("FAILED: dim-kernels/cuda_scan\n"), "{output}");
    }
}
