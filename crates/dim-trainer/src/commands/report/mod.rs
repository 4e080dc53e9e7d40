//! `dim-trainer report`: one self-contained page of a training run, or of several side by side.

mod description;
mod run;

use std::fs;
use std::path::{Path, PathBuf};

use dim_report::training::page;

use crate::cli::ReportArgs;
use crate::error::TrainerError;
use crate::files;
use crate::run_folder::RunFolder;

pub(super) fn run(arguments: ReportArgs) -> Result<u8, TrainerError> {
    let ReportArgs { runs, out } = arguments;
    let names = names(&runs)?;
    let read = runs.iter().zip(names).map(|(path, name)| run::read(&RunFolder::new(path), name));
    let read: Vec<_> = read.collect::<Result<_, _>>()?;
    let out = out.unwrap_or_else(|| match &runs[..] {
        [only] => RunFolder::new(only).report(),
        _ => PathBuf::from("report.html"),
    });
    files::write_bytes_atomically(&out, page(&read).as_bytes())?;
    println!("{}", out.display());
    Ok(0)
}

/// What the runs are called: by their folders, and where these are called alike, by their paths.
fn names(runs: &[PathBuf]) -> Result<Vec<String>, TrainerError> {
    let whole = |path: &PathBuf| {
        let absolute = fs::canonicalize(path);
        if path.is_dir() { absolute.map_err(|source| TrainerError::read(path, source)) } else { Err(no_folder(path)) }
    };
    let wholes: Vec<PathBuf> = runs.iter().map(whole).collect::<Result<_, _>>()?;
    for (index, one) in wholes.iter().enumerate() {
        if wholes[..index].contains(one) {
            return Err(TrainerError::Usage(format!("{}: the same run twice", runs[index].display())));
        }
    }
    let short = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_alone = |name: &String| wholes.iter().filter(|other| short(other) == *name).count() == 1;
    let name = |(given, whole): (&PathBuf, &PathBuf)| {
        let short = short(whole);
        if is_alone(&short) { short } else { given.display().to_string() }
    };
    Ok(runs.iter().zip(&wholes).map(name).collect())
}

fn no_folder(path: &Path) -> TrainerError {
    TrainerError::Unsupported(format!("{}: no such folder; expected that of a run", path.display()))
}
