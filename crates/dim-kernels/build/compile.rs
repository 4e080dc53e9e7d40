//! Runs nvcc, on several sources at once, for those that have changed.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

/// Machine code for the GPUs in use, and PTX that the driver compiles for those to come.
const ARCHITECTURES: [&str; 7] = [
    "arch=compute_80,code=sm_80",
    "arch=compute_86,code=sm_86",
    "arch=compute_89,code=sm_89",
    "arch=compute_90a,code=sm_90a",
    "arch=compute_100,code=sm_100",
    "arch=compute_120,code=sm_120",
    "arch=compute_80,code=compute_80",
];

const OPTIONS: [&str; 5] = ["--fatbin", "-std=c++17", "-O3", "--Werror=all-warnings", "--compress-mode=size"];

/// Headers that every operation may include.
const COMMON: &str = "common";

/// A compiled source: its name, `<operation>/<name>`, and the fat binary.
pub(crate) struct Image {
    pub(crate) source: String,
    pub(crate) file: PathBuf,
}

/// Compiles the sources, as many at a time as cargo allows.
pub(crate) fn compile_all(
    nvcc: &Path,
    kernels: &Path,
    sources: &[String],
    output: &Path,
) -> Result<Vec<Image>, String> {
    let image = |source: &String| Image { source: source.clone(), file: output.join(source).with_extension("fatbin") };
    let images: Vec<_> = sources.iter().map(image).collect();
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let next = AtomicUsize::new(0);
    let worker = || -> Result<(), String> {
        while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
            compile(nvcc, kernels, image)?;
        }
        Ok(())
    };
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(images.len())).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into()))).collect()
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(images)
}

/// Compiles one source, unless its fat binary is of this very source, compiler and options.
fn compile(nvcc: &Path, kernels: &Path, image: &Image) -> Result<(), String> {
    let source = kernels.join(&image.source).with_extension("cu");
    let failed = |error: io::Error| format!("{}: {error}", source.display());
    let key = key(nvcc, kernels, &source).map_err(failed)?;
    let key_file = image.file.with_extension("key");
    if image.file.exists() && fs::read_to_string(&key_file).is_ok_and(|found| found == key) {
        return Ok(());
    }
    if let Some(folder) = image.file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // The key is written last: an interrupted compilation leaves none that fits.
    let _ = fs::remove_file(&key_file);
    let mut command = Command::new(nvcc);
    command.args(OPTIONS);
    for architecture in ARCHITECTURES {
        command.args(["-gencode", architecture]);
    }
    command.arg("-I").arg(kernels).arg("-o").arg(&image.file).arg(&source);
    let result = command.output().map_err(|error| format!("cannot start {}: {error}", nvcc.display()))?;
    if !result.status.success() {
        let log = String::from_utf8_lossy(&result.stderr);
        return Err(format!("{command:?} failed ({}):\n{log}", result.status));
    }
    fs::write(key_file, key).map_err(failed)
}

/// A hash of what a fat binary is made of: the source, the headers beside it and the common ones, compiler and options.
fn key(nvcc: &Path, kernels: &Path, source: &Path) -> io::Result<String> {
    let mut headers = Vec::new();
    for folder in [source.parent().unwrap_or(kernels), &kernels.join(COMMON)] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "cuh" || extension == "h") {
                headers.push(path);
            }
        }
    }
    headers.sort();
    let mut hasher = DefaultHasher::new();
    let compiler = fs::metadata(nvcc)?;
    (nvcc, compiler.len(), compiler.modified()?, OPTIONS, ARCHITECTURES).hash(&mut hasher);
    for path in headers.iter().map(PathBuf::as_path).chain([source]) {
        (path.file_name(), fs::read(path)?).hash(&mut hasher);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}
