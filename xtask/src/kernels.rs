//! Compiles every CUDA source under `kernels/` into a fat binary, to prove that it compiles.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{self, Interrupt},
    steps::Outcome,
    workspace::Workspace,
};

/// Machine code for the GPUs in use, and PTX for those to come.
const ARCHITECTURES: [&str; 7] = [
    "arch=compute_80,code=sm_80",
    "arch=compute_86,code=sm_86",
    "arch=compute_89,code=sm_89",
    "arch=compute_90a,code=sm_90a",
    "arch=compute_100,code=sm_100",
    "arch=compute_120,code=sm_120",
    "arch=compute_120,code=compute_120",
];

pub(crate) fn compile_all(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<Outcome> {
    let folder = workspace.root().join("kernels");
    let sources = sources(&folder)?;
    if sources.is_empty() {
        return Ok(Outcome::Skipped("there are no CUDA sources".to_owned()));
    }
    let nvcc = workspace.site().join("nvidia/cu13/bin/nvcc");
    if !nvcc.exists() {
        return Ok(Outcome::Skipped("nvcc is not installed".to_owned()));
    }
    for source in &sources {
        let output = workspace.root().join("target/kernels").join(source.strip_prefix(&folder)?);
        let output = output.with_extension("fatbin");
        fs::create_dir_all(output.parent().unwrap_or(&output))?;
        println!("{}", source.display());
        process::run(&mut command(&nvcc, &folder, source, &output), interrupt)?;
    }
    Ok(Outcome::Passed)
}

fn command(nvcc: &Path, include: &Path, source: &Path, output: &Path) -> Command {
    let mut command = Command::new(nvcc);
    command.args(["--fatbin", "-std=c++17", "-O3", "--Werror=all-warnings", "--threads=0"]);
    for architecture in ARCHITECTURES {
        command.args(["-gencode", architecture]);
    }
    command.arg("-I").arg(include).arg("-o").arg(output).arg(source);
    command
}

/// All `.cu` files under a folder, in the order of their names.
fn sources(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_are_found_in_every_folder_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["scan/b.cu", "scan/a.cu", "scan/a.cuh", "conv/instances/c.cu", "README.md"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = sources(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, ["conv/instances/c.cu", "scan/a.cu", "scan/b.cu"].map(Path::new));
    }
}
