//! How pip is called, and what its failures mean.

use std::{path::Path, process::Command};

use super::{component::Component, error::SetupError, python::Python};

/// The wheels are pinned for this Python and these platforms, whatever Python runs pip: set-up takes C++ libraries
/// and data out of them, and one hash per distribution then suffices.
const PYTHON_OF_THE_WHEELS: &str = "3.12";
const NEWEST_GLIBC_MINOR: u32 = 28;
const OLDEST_GLIBC_MINOR: u32 = 17;

/// Installs a requirements file into an empty folder; all that pip writes stays under `work`.
pub(crate) fn install(python: &Python, work: &Path, requirements: &Path, target: &Path) -> Command {
    let mut command = python.pip();
    command.args(["install", "--no-input", "--no-deps", "--require-hashes", "--only-binary=:all:"]);
    command.args(["--no-compile", "--no-cache-dir", "--progress-bar=off", "--retries=3"]);
    command.args(["--implementation=cp", "--python-version", PYTHON_OF_THE_WHEELS]);
    for minor in (OLDEST_GLIBC_MINOR..=NEWEST_GLIBC_MINOR).rev() {
        command.arg(format!("--platform=manylinux_2_{minor}_x86_64"));
    }
    command.args(["--platform=manylinux2014_x86_64", "--platform=manylinux2010_x86_64"]);
    command.arg("--target").arg(target).arg("--requirement").arg(requirements);
    command.env("TMPDIR", work).env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8");
    // Settings of the user's that make sense for other installations and would break this one.
    command.env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0").env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    command.env("PIP_ROOT_USER_ACTION", "ignore").env_remove("PIP_PREFIX").env_remove("PIP_ROOT");
    command
}

const NETWORK_TROUBLE: [(&str, &str); 11] = [
    ("Connection refused", "the package index refused the connection"),
    ("Temporary failure in name resolution", "the package index's name cannot be resolved"),
    ("Name or service not known", "the package index's name cannot be resolved"),
    ("nodename nor servname provided", "the package index's name cannot be resolved"),
    ("Network is unreachable", "the network cannot be reached"),
    ("No route to host", "the package index cannot be reached"),
    ("CERTIFICATE_VERIFY_FAILED", "the package index's certificate is not trusted"),
    ("ProxyError", "the proxy refused or failed"),
    ("Timeout", "the package index did not answer in time"),
    ("timed out", "the package index did not answer in time"),
    ("connection broken by", "the connection broke"),
];

/// Finds out from pip's output why it failed.
pub(crate) fn diagnose(component: &Component, log: &str, log_path: &Path, deps: &Path) -> SetupError {
    let title = component.title;
    if log.contains("No space left on device") || log.contains("Disk quota exceeded") {
        return SetupError::DiskFull(deps.to_owned());
    }
    if log.contains("DO NOT MATCH THE HASHES") {
        return SetupError::OtherHash { title };
    }
    if let Some((_, reason)) = NETWORK_TROUBLE.iter().find(|(mark, _)| log.contains(mark)) {
        return SetupError::NoNetwork { title, reason: (*reason).to_owned() };
    }
    let last_error = log.lines().rev().find_map(|line| line.strip_prefix("ERROR: "));
    if log.contains("No matching distribution found") {
        let reason = last_error.unwrap_or("no matching distribution found").to_owned();
        return SetupError::NotOnIndex { title, reason };
    }
    let last_line = log.lines().rev().find(|line| !line.trim().is_empty());
    let reason = last_error.or(last_line).unwrap_or("pip said nothing").to_owned();
    SetupError::Failed { title, reason, log: log_path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{super::component::LIBTORCH, *};

    fn diagnosis(log: &str) -> SetupError {
        diagnose(&LIBTORCH, log, Path::new(".deps/pip.log"), Path::new(".deps"))
    }

    #[test]
    fn dead_index_is_a_network_problem_although_pip_ends_with_no_match() {
        let log = "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by \
            'NewConnectionError('<HTTPConnection>: [Errno 111] Connection refused')': /simple/torch/\n\
            ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from versions: none)\n\
            ERROR: No matching distribution found for torch==2.11.0\n";
        assert!(matches!(diagnosis(log), SetupError::NoNetwork { reason, .. } if reason.contains("refused")));
    }

    #[test]
    fn full_disk_wins_over_earlier_network_warnings() {
        let log = "WARNING: Retrying after connection broken by 'x'\n\
            ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n";
        assert!(matches!(diagnosis(log), SetupError::DiskFull(_)));
    }

    #[test]
    fn incomplete_mirror_and_exchanged_wheel_are_told_apart() {
        let log = "ERROR: No matching distribution found for torch==2.11.0\n";
        assert!(matches!(diagnosis(log), SetupError::NotOnIndex { .. }));
        let log = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n";
        assert!(matches!(diagnosis(log), SetupError::OtherHash { .. }));
    }

    #[test]
    fn anything_else_quotes_pips_last_error_and_names_the_log() {
        let error = diagnosis("Collecting torch\nERROR: something new\n\n");
        assert_eq!(error.to_string(), "installing libtorch 2.11.0 failed: something new");
        assert!(error.mend().is_some_and(|mend| mend.contains(".deps/pip.log")));
        assert!(diagnosis("").to_string().contains("pip said nothing"));
    }
}
