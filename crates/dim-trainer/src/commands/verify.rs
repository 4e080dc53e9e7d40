//! `dim-trainer verify`: prints how near this program comes to the published implementation, file by file.

use std::path::Path;

use dim_model::{Precision, verify::Setting};
use serde_json::{Value, json};
use tch::Device;

use crate::cli::{ComputeArgs, VerifyArgs, VerifyPrecision};
use crate::device::Compute;
use crate::error::TrainerError;
use crate::files;
use crate::format::counted;
use crate::verify::{Check, Kind, Report, verify_file};

/// Failures that are printed for each file; more are counted.
const MAX_FAILURES: usize = 10;

pub(super) fn run(arguments: VerifyArgs) -> Result<u8, TrainerError> {
    let folder = &arguments.golden;
    if !folder.is_dir() {
        return Err(TrainerError::Verification(format!(
            "{}: no such folder; expected one with safetensors files to compare with",
            folder.display()
        )));
    }
    let compute = Compute::start(ComputeArgs { device: arguments.device, threads: arguments.threads }, None)?;
    let setting = Setting {
        device: compute.device,
        precision: match (arguments.precision, compute.device) {
            (VerifyPrecision::F32, _) => Precision::F32,
            (VerifyPrecision::Bf16, Device::Cuda(_)) => Precision::Bf16,
            (VerifyPrecision::Bf16, _) => {
                return Err(TrainerError::Usage("--precision bf16 needs a GPU: give --device cuda:N".to_owned()));
            }
        },
    };
    let mut totals = Totals { json: arguments.json, ..Totals::default() };
    if compute.device != Device::Cpu {
        let line =
            format!("networks and scan on {} in {:?}; schedules on the CPU", compute.describe(), setting.precision);
        totals.say(&line);
    }
    let mut skipped = Vec::new();
    for path in files::list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match Kind::of(&path) {
            None => skipped.push(format!("{name}: not covered")),
            Some(kind) if kind.is_full_size() && !arguments.full => skipped.push(format!("{name}: needs --full")),
            Some(Kind::Features) if !arguments.efficientnet_lite0.exists() => skipped.push(format!(
                "{name}: needs {} (`cargo xtask setup` installs it) or `--efficientnet-lite0 FILE`",
                arguments.efficientnet_lite0.display()
            )),
            Some(kind) => totals.add(&name, &path, kind, setting, &arguments.efficientnet_lite0),
        }
    }
    if !skipped.is_empty() {
        totals.say(&format!("\nnot compared\n  {}", skipped.join("\n  ")));
    }
    totals.say(&format!(
        "\n{} of {} compared, {} failed",
        counted(totals.tensors, "tensor"),
        counted(totals.files, "file"),
        totals.failed
    ));
    if totals.tensors == 0 {
        return Err(TrainerError::Verification(format!("{}: nothing was compared", folder.display())));
    }
    if totals.json {
        let result = json!({
            "tensors": totals.tensors,
            "failed": totals.failed,
            "device": compute.describe(),
            "precision": format!("{:?}", setting.precision).to_lowercase(),
            "files": totals.reports,
            "not_compared": skipped,
        });
        println!("{result}");
    }
    Ok(u8::from(totals.failed > 0))
}

#[derive(Default)]
struct Totals {
    files: usize,
    tensors: usize,
    failed: usize,
    /// One JSON object a file.
    reports: Vec<Value>,
    json: bool,
}

impl Totals {
    /// A line for people.
    fn say(&self, line: &str) {
        if self.json { eprintln!("{line}") } else { println!("{line}") }
    }

    fn add(&mut self, name: &str, path: &Path, kind: Kind, setting: Setting, efficientnet_lite0: &Path) {
        self.files += 1;
        match verify_file(path, kind, setting, efficientnet_lite0) {
            Ok(report) if report.checks.is_empty() => self.fail(name, "it holds nothing to compare with"),
            Ok(report) => {
                self.tensors += report.checks.len();
                let (lines, failed) = describe_report(name, &report);
                self.failed += failed;
                self.say(&lines.join("\n"));
                self.reports.push(json_of(name, &report));
            }
            Err(error) => self.fail(name, &error.to_string()),
        }
    }

    /// A file that could not be compared.
    fn fail(&mut self, name: &str, problem: &str) {
        self.failed += 1;
        self.say(&format!("{name}\n  FAILED: {problem}"));
        self.reports.push(json!({"file": name, "problem": problem}));
    }
}

/// Every comparison of a file.
fn json_of(name: &str, report: &Report) -> Value {
    let check = |check: &Check| json!({"tensor": check.tensor, "error": check.error, "tolerance": check.tolerance, "passed": check.passed()});
    json!({
        "file": name,
        "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
        "not_covered": report.not_covered,
    })
}

/// The lines for people, and the number of failures.
fn describe_report(name: &str, report: &Report) -> (Vec<String>, usize) {
    let failures: Vec<&Check> = report.checks.iter().filter(|check| !check.passed()).collect();
    let result = if failures.is_empty() { "all within tolerance".into() } else { format!("{} FAILED", failures.len()) };
    let mut lines = vec![format!("{name}: {}, {result}", counted(report.checks.len(), "tensor"))];
    if let Some(worst) = report.checks.iter().max_by(|one, other| one.ratio().total_cmp(&other.ratio())) {
        lines.push(format!("  worst: {}", describe(worst)));
    }
    for check in failures.iter().take(MAX_FAILURES) {
        lines.push(format!("  FAILED: {}", describe(check)));
    }
    if failures.len() > MAX_FAILURES {
        lines.push(format!("  … and {} more", failures.len() - MAX_FAILURES));
    }
    if !report.not_covered.is_empty() {
        lines.push(format!(
            "  not covered, {}: {}",
            counted(report.not_covered.len(), "key"),
            report.not_covered.join(", ")
        ));
    }
    (lines, failures.len())
}

fn describe(check: &Check) -> String {
    format!(
        "{:.3} of the tolerance, error {:.2e}, tolerance {:.0e}, {}",
        check.ratio(),
        check.error,
        check.tolerance,
        check.tensor
    )
}
