//! Runs nvcc, on several sources at once, for those that have changed.
//!
//! A job compiles one source for one family of GPUs: source → PTX → a cubin for each GPU of the family. What the
//! assembler says of registers and spills is kept beside them in `<name>.<family>.log`, which
//! `cargo xtask kernel-resources` reads. At the end the parts of a source are joined into its fat binary.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

use crate::architectures::Family;

const OPTIONS: [&str; 2] = ["-std=c++17", "-O3"];
const WARNINGS: &str = "--Werror=all-warnings";
const COMPRESSION: &str = "--compress-mode=size";

/// Headers that every operation may include.
const COMMON: &str = "common";

/// A compiled source: its name, `<operation>/<name>`, and the fat binary.
pub(crate) struct Image {
    pub(crate) source: String,
    pub(crate) file: PathBuf,
}

/// What all jobs share.
struct Compiler<'a> {
    nvcc: &'a Path,
    kernels: &'a Path,
    output: &'a Path,
}

/// Compiles the sources, as many at a time as cargo allows.
pub(crate) fn compile_all(
    nvcc: &Path,
    kernels: &Path,
    sources: &[String],
    families: &[Family],
    output: &Path,
) -> Result<Vec<Image>, String> {
    let compiler = Compiler { nvcc, kernels, output };
    let jobs: Vec<_> = sources.iter().flat_map(|source| families.iter().map(move |family| (source, family))).collect();
    run_all(&jobs, |(source, family)| compiler.compile(source, family))?;
    run_all(sources, |source| compiler.join(source, families))?;
    let image = |source: &String| Image { source: source.clone(), file: compiler.file(source, "fatbin") };
    Ok(sources.iter().map(image).collect())
}

/// Does the jobs side by side; after a failure none is begun.
fn run_all<Job: Sync>(jobs: &[Job], run: impl Fn(&Job) -> Result<(), String> + Sync) -> Result<(), String> {
    let threads = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let next = AtomicUsize::new(0);
    let worker = || -> Result<(), String> {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(job).inspect_err(|_| next.store(jobs.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into())))
    })
}

impl Compiler<'_> {
    /// The file of this source with this ending in the output folder.
    fn file(&self, source: &str, ending: &str) -> PathBuf {
        self.output.join(format!("{source}.{ending}"))
    }

    /// Compiles one source for one family, unless what is there is of this very source, compiler and options.
    fn compile(&self, source: &str, family: &Family) -> Result<(), String> {
        let code = self.kernels.join(source).with_extension("cu");
        let failed = |error: io::Error| format!("{}: {error}", code.display());
        let key = self.key(&code, family).map_err(failed)?;
        let key_file = self.file(source, &format!("{}.key", family.ptx));
        if fs::read_to_string(&key_file).is_ok_and(|found| found == key) {
            return Ok(());
        }
        if let Some(folder) = key_file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // The key is written last: an interrupted compilation leaves none that fits.
        let _ = fs::remove_file(&key_file);

        let ptx = self.file(source, &format!("{}.ptx", family.ptx));
        let mut command = Command::new(self.nvcc);
        command.arg("--ptx").args(OPTIONS).arg(WARNINGS).arg(format!("-arch=compute_{}", family.ptx));
        run(command.arg("-I").arg(self.kernels).arg("-o").arg(&ptx).arg(&code))?;
        let mut log = String::new();
        for machine in &family.machines {
            let mut command = Command::new(self.nvcc);
            command.arg("--cubin").arg(WARNINGS).args(["-Xptxas", "-v"]).arg(format!("-arch=sm_{machine}"));
            command.arg("-o").arg(self.file(source, &format!("{machine}.cubin")));
            log += &run(command.arg(&ptx))?;
        }
        fs::write(self.file(source, &format!("{}.log", family.ptx)), log).map_err(failed)?;
        fs::write(key_file, key).map_err(failed)
    }

    /// Joins the parts of a source into its fat binary, unless it is made of these very parts.
    fn join(&self, source: &str, families: &[Family]) -> Result<(), String> {
        let (image, key_file) = (self.file(source, "fatbin"), self.file(source, "key"));
        let failed = |error: io::Error| format!("{}: {error}", image.display());
        let mut key = String::new();
        let mut command = Command::new(self.nvcc.with_file_name("fatbinary"));
        command.arg(format!("--create={}", image.display())).args(["-64", COMPRESSION]);
        let mut add = |kind: &str, architecture: &str, ending: String| {
            let file = self.file(source, &ending);
            command.arg(format!("--image3=kind={kind},sm={architecture},file={}", file.display()));
        };
        for family in families {
            key += &fs::read_to_string(self.file(source, &format!("{}.key", family.ptx))).map_err(failed)?;
            family.machines.iter().for_each(|machine| add("elf", machine, format!("{machine}.cubin")));
            if family.embeds_ptx {
                add("ptx", family.ptx, format!("{}.ptx", family.ptx));
            }
        }
        if image.exists() && fs::read_to_string(&key_file).is_ok_and(|found| found == key) {
            return Ok(());
        }
        let _ = fs::remove_file(&key_file);
        run(&mut command)?;
        fs::write(key_file, key).map_err(failed)
    }

    /// A hash of what the parts for a family are made of: the source, the headers beside it and the common ones,
    /// compiler and options.
    fn key(&self, code: &Path, family: &Family) -> io::Result<String> {
        let mut headers = Vec::new();
        for folder in [code.parent().unwrap_or(self.kernels), &self.kernels.join(COMMON)] {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "cuh" || extension == "h") {
                    headers.push(path);
                }
            }
        }
        headers.sort();
        let mut hasher = DefaultHasher::new();
        let compiler = fs::metadata(self.nvcc)?;
        (self.nvcc, compiler.len(), compiler.modified()?, OPTIONS, WARNINGS, COMPRESSION).hash(&mut hasher);
        (family.ptx, &family.machines, family.embeds_ptx).hash(&mut hasher);
        for path in headers.iter().map(PathBuf::as_path).chain([code]) {
            (path.file_name(), fs::read(path)?).hash(&mut hasher);
        }
        Ok(format!("{:016x}\n", hasher.finish()))
    }
}

/// Runs a command and returns what it wrote, which an error holds too.
fn run(command: &mut Command) -> Result<String, String> {
    let result =
        command.output().map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?;
    let log = String::from_utf8_lossy(&result.stdout) + String::from_utf8_lossy(&result.stderr);
    if !result.status.success() {
        return Err(format!("{command:?} failed ({}):\n{log}", result.status));
    }
    Ok(log.into_owned())
}
