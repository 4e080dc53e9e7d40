//! `dim-trainer verify`: prints how near this program comes to the published implementation, file by file.

use std::path::Path;

use dim_model::{Precision, verify::Setting};
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
    if compute.device != Device::Cpu {
        println!("networks and scan on {} in {:?}; schedules on the CPU", compute.describe(), setting.precision);
    }
    let mut totals = Totals::default();
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
        println!("\nnot compared\n  {}", skipped.join("\n  "));
    }
    println!(
        "\n{} of {} compared, {} failed",
        counted(totals.tensors, "tensor"),
        counted(totals.files, "file"),
        totals.failed
    );
    if totals.tensors == 0 {
        return Err(TrainerError::Verification(format!("{}: nothing was compared", folder.display())));
    }
    Ok(u8::from(totals.failed > 0))
}

#[derive(Default)]
struct Totals {
    files: usize,
    tensors: usize,
    failed: usize,
}

impl Totals {
    fn add(&mut self, name: &str, path: &Path, kind: Kind, setting: Setting, efficientnet_lite0: &Path) {
        self.files += 1;
        match verify_file(path, kind, setting, efficientnet_lite0) {
            Ok(report) if report.checks.is_empty() => {
                self.failed += 1;
                println!("{name}\n  FAILED: it holds nothing to compare with");
            }
            Ok(report) => {
                self.tensors += report.checks.len();
                self.failed += print(name, &report);
            }
            Err(error) => {
                self.failed += 1;
                println!("{name}\n  FAILED: {error}");
            }
        }
    }
}

/// Returns the number of failures.
fn print(name: &str, report: &Report) -> usize {
    let failures: Vec<&Check> = report.checks.iter().filter(|check| !check.passed()).collect();
    let result = if failures.is_empty() { "all within tolerance".into() } else { format!("{} FAILED", failures.len()) };
    println!("{name}: {}, {result}", counted(report.checks.len(), "tensor"));
    if let Some(worst) = report.checks.iter().max_by(|one, other| one.ratio().total_cmp(&other.ratio())) {
        println!("  worst: {}", describe(worst));
    }
    for check in failures.iter().take(MAX_FAILURES) {
        println!("  FAILED: {}", describe(check));
    }
    if failures.len() > MAX_FAILURES {
        println!("  … and {} more", failures.len() - MAX_FAILURES);
    }
    if !report.not_covered.is_empty() {
        println!("  not covered, {}: {}", counted(report.not_covered.len(), "key"), report.not_covered.join(", "));
    }
    failures.len()
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
