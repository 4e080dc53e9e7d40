//! Installs one component: made in a folder beside, checked there, then renamed into place, then stamped.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use crate::process::Interrupt;

use super::{
    component::{Component, Source, distributions},
    error::SetupError,
    fashion_mnist,
    machine::is_program,
    merge, pip, progress,
    python::Python,
    record, stamp,
};

/// What every installation works with.
pub(crate) struct Tools<'a> {
    pub(crate) python: Python,
    pub(crate) interrupt: &'a Interrupt,
}

/// Installs over whatever stands there. On an error, the component is either as before or missing, never half there.
pub(crate) fn install(deps: &Path, component: &'static Component, tools: &Tools<'_>) -> Result<(), SetupError> {
    let work = deps.join("unfinished").join(component.name);
    let failed = |doing: &str| SetupError::io(format!("{doing} {}", work.display()), deps);
    merge::remove(&work).map_err(failed("clear"))?;
    fs::create_dir_all(&work).map_err(failed("make the folder"))?;
    let job = Job { deps, component, work: &work, tools };
    let result = match component.source {
        Source::Wheels { pins } => job.wheels(pins),
        Source::FashionMnist => job.fashion_mnist(),
    };
    // After a failure the work folder may be gone, full or unwritable; the next run clears it before it starts.
    let _ = merge::remove(&work);
    let _ = fs::remove_dir(deps.join("unfinished"));
    if result.is_ok() {
        let _ = fs::remove_file(job.log());
    }
    result
}

struct Job<'a> {
    deps: &'a Path,
    component: &'static Component,
    work: &'a Path,
    tools: &'a Tools<'a>,
}

impl Job<'_> {
    fn wheels(&self, pins: &str) -> Result<(), SetupError> {
        let requirements = self.work.join("requirements.txt");
        let made = self.work.join("site");
        fs::write(&requirements, pins).map_err(self.failed("write the requirements"))?;
        let (status, log) = self.watch(&mut pip::install(&self.tools.python, self.work, &requirements, &made))?;
        if !status.success() {
            return Err(pip::diagnose(self.component, &log, &self.log(), self.deps));
        }
        let distributions = distributions(pins);
        for distribution in &distributions {
            record::verify(&made, distribution).map_err(|flaw| self.not_whole(flaw.to_string()))?;
        }
        let site = self.deps.join("python");
        self.put_in_place(|| {
            for distribution in &distributions {
                record::remove(&site, &distribution.name)?;
            }
            merge::merge(&made, &site)
        })
    }

    fn fashion_mnist(&self) -> Result<(), SetupError> {
        for program in ["apt-get", "dpkg-deb"] {
            if !is_program(program) {
                let (title, program) = (self.component.title, program.to_owned());
                return Err(SetupError::NoApt { title, program });
            }
        }
        let (status, log) = self.watch(&mut fashion_mnist::download(self.work))?;
        let package = fashion_mnist::unpack(self.work).filter(|_| status.success());
        let Some(mut unpack) = package else { return Err(fashion_mnist_diagnosis(self.component, &log, &self.log())) };
        let (status, log) = self.watch(&mut unpack)?;
        if !status.success() {
            return Err(fashion_mnist_diagnosis(self.component, &log, &self.log()));
        }
        let made = fashion_mnist::unpacked(self.work);
        fashion_mnist::verify(&made).map_err(|reason| self.not_whole(reason))?;
        let target = fashion_mnist::folder(self.deps);
        self.put_in_place(|| {
            merge::remove(&target)?;
            fs::rename(&made, &target)
        })
    }

    /// Runs an installer; returns its status and all that it wrote.
    fn watch(&self, command: &mut Command) -> Result<(ExitStatus, String), SetupError> {
        let log = self.log();
        fs::write(&log, "").map_err(self.failed("write the log"))?;
        let status = progress::watch(command, self.component, self.work, &log, self.tools.interrupt)
            .map_err(self.failed("run the installer"))?
            .ok_or(SetupError::Interrupted)?;
        Ok((status, String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned()))
    }

    /// The only place where files of an installed component change.
    fn put_in_place(&self, change: impl FnOnce() -> std::io::Result<()>) -> Result<(), SetupError> {
        stamp::remove(self.deps, self.component).map_err(self.failed("remove the stamp"))?;
        change().map_err(self.failed("move the files into place"))?;
        stamp::write(self.deps, self.component).map_err(self.failed("write the stamp"))
    }

    /// Kept after a failure, for the user to read.
    fn log(&self) -> std::path::PathBuf {
        self.deps.join(format!("{}.log", self.component.name))
    }

    fn failed(&self, doing: &str) -> impl FnOnce(std::io::Error) -> SetupError {
        SetupError::io(format!("{doing} of {}", self.component.title), self.deps)
    }

    fn not_whole(&self, reason: String) -> SetupError {
        SetupError::NotWhole { title: self.component.title, reason }
    }
}

/// What apt's words mean; without its package lists it knows no package at all.
fn fashion_mnist_diagnosis(component: &'static Component, log: &str, path: &Path) -> SetupError {
    let title = component.title;
    if log.contains("No space left on device") {
        return SetupError::DiskFull(path.parent().unwrap_or(path).to_owned());
    }
    let reason = if log.contains("Unable to locate package") || log.contains("No packages found") {
        "apt does not know the package; `apt-get update` (as root) fetches its lists".to_owned()
    } else {
        let error = log.lines().rev().find(|line| line.starts_with("E: ")).or_else(|| log.lines().last());
        error.unwrap_or("apt said nothing").trim_start_matches("E: ").to_owned()
    };
    SetupError::Failed { title, reason, log: path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{super::component::FASHION_MNIST, *};

    #[test]
    fn apt_without_lists_is_explained() {
        let path = Path::new(".deps/fashion-mnist.log");
        let error =
            fashion_mnist_diagnosis(&FASHION_MNIST, "E: Unable to locate package dataset-fashion-mnist\n", path);
        assert!(error.to_string().contains("apt-get update"), "{error}");
        let error = fashion_mnist_diagnosis(&FASHION_MNIST, "Err:1 x\nE: Failed to fetch x\n", path);
        assert!(error.to_string().ends_with("Failed to fetch x"), "{error}");
    }
}
