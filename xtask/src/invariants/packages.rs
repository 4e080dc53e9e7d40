//! The packages of the workspace as cargo sees them.

use std::collections::BTreeSet;

use anyhow::Context;
use serde_json::Value;

use crate::workspace::Workspace;

#[derive(Clone, Debug, Default)]
pub(super) struct Package {
    pub(super) name: String,
    /// Folder relative to the root of the workspace.
    pub(super) folder: String,
    /// Direct dependencies of every kind: normal, build and dev.
    pub(super) dependencies: BTreeSet<String>,
    /// Root files of its library and its programs, relative to the root of the workspace.
    pub(super) roots: Vec<String>,
}

pub(super) fn of(workspace: &Workspace) -> anyhow::Result<Vec<Package>> {
    let mut command = workspace.cargo(["metadata", "--format-version=1", "--no-deps"]);
    let output = command.output().context("cannot start cargo")?;
    anyhow::ensure!(output.status.success(), "`cargo metadata`: {}", String::from_utf8_lossy(&output.stderr).trim());
    parse(&serde_json::from_slice(&output.stdout)?).context("`cargo metadata` answered in an unknown form")
}

fn parse(metadata: &Value) -> Option<Vec<Package>> {
    let root = metadata["workspace_root"].as_str()?;
    let relative = |path: &str| path.strip_prefix(root).map(|path| path.trim_start_matches('/').to_owned());
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array()?.iter();
        let mut roots = Vec::new();
        for target in package["targets"].as_array()? {
            let is_product = |kind: &Value| matches!(kind.as_str(), Some("lib" | "rlib" | "bin" | "proc-macro"));
            if target["kind"].as_array()?.iter().any(is_product) {
                roots.push(relative(target["src_path"].as_str()?)?);
            }
        }
        Some(Package {
            name: package["name"].as_str()?.to_owned(),
            folder: relative(package["manifest_path"].as_str()?.strip_suffix("/Cargo.toml")?)?,
            dependencies: dependencies.map(|it| it["name"].as_str().map(str::to_owned)).collect::<Option<_>>()?,
            roots,
        })
    };
    metadata["packages"].as_array()?.iter().map(package).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_read() {
        let packages = parse(&json!({
            "workspace_root": "/w",
            "packages": [{
                "name": "dim-data",
                "manifest_path": "/w/crates/dim-data/Cargo.toml",
                "dependencies": [{"name": "rand", "kind": null}, {"name": "tempfile", "kind": "dev"}],
                "targets": [
                    {"kind": ["lib"], "src_path": "/w/crates/dim-data/src/lib.rs"},
                    {"kind": ["test"], "src_path": "/w/crates/dim-data/tests/all.rs"}
                ]
            }]
        }));
        let package = &packages.unwrap()[0];
        assert_eq!((package.name.as_str(), package.folder.as_str()), ("dim-data", "crates/dim-data"));
        assert_eq!(package.dependencies, ["rand", "tempfile"].map(str::to_owned).into());
        assert_eq!(package.roots, ["crates/dim-data/src/lib.rs"]);
    }

    #[test]
    fn unknown_form_is_no_empty_workspace() {
        assert!(parse(&json!({"workspace_root": "/w"})).is_none());
    }
}
