//! What cargo says it has built, by its messages in JSON.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context;
use serde_json::Value;

use crate::{
    process::{self, CommandError, Interrupt},
    workspace::Workspace,
};

/// A program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Folder name of its package.
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// What a build made.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) programs: Vec<Program>,
    /// Where build scripts of this workspace put their output, by folder name of their package.
    pub(crate) outputs: Vec<(String, PathBuf)>,
}

/// Runs a cargo command that builds, and collects what it made; errors and warnings go to the terminal as usual.
pub(crate) fn build<const N: usize>(
    workspace: &Workspace,
    arguments: [&str; N],
    interrupt: &Interrupt,
) -> anyhow::Result<Built> {
    let mut command = workspace.cargo(arguments);
    println!("$ {}", process::shown(&command));
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let shown = process::shown(&command);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let mut built = Built::default();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        built.add(&line?);
    }
    let status = child.wait()?;
    if interrupt.came() {
        return Err(CommandError::Interrupted.into());
    }
    anyhow::ensure!(status.success(), CommandError::Failed { command: shown, status });
    built.programs.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(built)
}

impl Built {
    /// Takes in a line of cargo's output; messages of other kinds are passed over.
    fn add(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        let folder = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        match message["reason"].as_str() {
            Some("compiler-artifact") => {
                let (Some(path), Some(name), Some(manifest)) = (
                    message["executable"].as_str(),
                    message["target"]["name"].as_str(),
                    message["manifest_path"].as_str(),
                ) else {
                    return;
                };
                let Some(package) = Path::new(manifest).parent().and_then(folder) else { return };
                self.programs.push(Program { package, name: name.to_owned(), path: path.into() });
            }
            Some("build-script-executed") => {
                // `path+file:///checkout/crates/dim-kernels#0.1.0` for packages of this workspace.
                let id = message["package_id"].as_str().unwrap_or_default();
                let Some(path) = id.strip_prefix("path+file://").and_then(|id| id.split('#').next()) else { return };
                let (Some(package), Some(output)) = (folder(Path::new(path)), message["out_dir"].as_str()) else {
                    return;
                };
                self.outputs.push((package, output.into()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_outputs_of_build_scripts_are_found_among_the_messages() {
        let mut built = Built::default();
        for line in [
            r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/dim-kernels/Cargo.toml","target":{"kind":["test"],"name":"cuda_scan"},"executable":"/t/deps/cuda_scan-1"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/dim-kernels/Cargo.toml","target":{"kind":["lib"],"name":"dim_kernels"},"executable":null}"#,
            r#"{"reason":"build-script-executed","package_id":"path+file:///w/crates/dim-kernels#0.1.0","out_dir":"/t/build/k/out"}"#,
            r#"{"reason":"build-script-executed","package_id":"registry+https://example.org/index#half@2.0.0","out_dir":"/t/build/h/out"}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "not of cargo",
        ] {
            built.add(line);
        }
        let program =
            Program { package: "dim-kernels".into(), name: "cuda_scan".into(), path: "/t/deps/cuda_scan-1".into() };
        assert_eq!(built.programs, [program]);
        assert_eq!(built.outputs, [("dim-kernels".to_owned(), PathBuf::from("/t/build/k/out"))]);
    }
}
