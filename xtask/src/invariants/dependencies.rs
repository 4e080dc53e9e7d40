//! Who may know whom.

use std::collections::BTreeSet;

use super::{Violation, packages::Package};

/// Packages that nobody but those named may depend on directly.
const KNOWN_ONLY_TO: [(&str, &[&str]); 2] = [("dim-kernels", &["dim-torch", "dim-bench"]), ("dim-trainer", &[])];

/// What a package must not reach, not even through others of the workspace, and why.
const NEVER_REACHED: [(&str, &[&str], &str); 5] = [
    ("dim-kernels", &["tch", "torch-sys"], "kernels are callable without libtorch"),
    ("dim-data", &["tch", "torch-sys", "cudarc"], "data stays on the host and knows no tensor library"),
    ("dim-diffusion", &["dim-model"], "samplers and losses work with any network"),
    ("dim-report", &["tch", "torch-sys", "cudarc"], "reports are made wherever the records are"),
    ("xtask", &["tch", "torch-sys"], "it must compile before libtorch is there"),
];

pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, allowed) in KNOWN_ONLY_TO {
        for package in packages {
            if package.dependencies.contains(name) && !allowed.contains(&package.name.as_str()) {
                let whom = if allowed.is_empty() { "nobody".to_owned() } else { allowed.join(" and ") };
                violations.push(Violation::new(&package.name, format!("depends on {name}, which {whom} may know")));
            }
        }
    }
    for (name, forbidden, why) in NEVER_REACHED {
        let Some(package) = packages.iter().find(|package| package.name == name) else {
            violations.push(Violation::new(name, "is not in the workspace, but a rule speaks of it"));
            continue;
        };
        let reached = reached(package, packages);
        for forbidden in forbidden.iter().filter(|forbidden| reached.contains(**forbidden)) {
            violations.push(Violation::new(name, format!("reaches {forbidden}: {why}")));
        }
    }
    violations
}

/// Names of all dependencies, followed through the packages of the workspace.
fn reached<'a>(package: &'a Package, packages: &'a [Package]) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut to_visit = vec![package];
    while let Some(package) = to_visit.pop() {
        for dependency in &package.dependencies {
            if reached.insert(dependency.as_str()) {
                to_visit.extend(packages.iter().find(|other| other.name == *dependency));
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(changes: &[(&str, &str)]) -> Vec<Package> {
        let mut edges = vec![
            ("dim-kernels", "rayon"),
            ("dim-torch", "dim-kernels"),
            ("dim-torch", "tch"),
            ("dim-bench", "dim-kernels"),
            ("dim-model", "dim-torch"),
            ("dim-diffusion", "tch"),
            ("dim-data", "rand"),
            ("dim-report", "serde"),
            ("dim-trainer", "dim-model"),
            ("xtask", "clap"),
        ];
        edges.extend(changes);
        let names: BTreeSet<_> = edges.iter().map(|(name, _)| *name).collect();
        let package = |name: &str| Package {
            name: name.to_owned(),
            dependencies: edges.iter().filter(|(from, _)| *from == name).map(|(_, to)| (*to).to_owned()).collect(),
            ..Package::default()
        };
        names.into_iter().map(package).collect()
    }

    #[test]
    fn architecture_as_drawn_passes() {
        assert_eq!(check(&workspace(&[])), []);
    }

    #[test]
    fn each_forbidden_edge_is_found() {
        for (from, to) in [
            ("dim-model", "dim-kernels"),
            ("dim-bench", "dim-trainer"),
            ("dim-kernels", "tch"),
            ("dim-data", "tch"),
            ("dim-report", "tch"),
            ("dim-diffusion", "dim-model"),
            ("xtask", "torch-sys"),
        ] {
            let violations = check(&workspace(&[(from, to)]));
            assert!(violations.iter().any(|violation| violation.place == from), "{from} -> {to}: {violations:?}");
        }
    }

    #[test]
    fn detours_through_the_workspace_count() {
        let violations = check(&workspace(&[("dim-data", "dim-torch")]));
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert!(violations[0].message.starts_with("reaches tch"));
    }

    #[test]
    fn renamed_package_does_not_escape_its_rule() {
        let packages: Vec<_> = workspace(&[]).into_iter().filter(|package| package.name != "dim-data").collect();
        assert!(check(&packages).iter().any(|violation| violation.place == "dim-data"));
    }
}
