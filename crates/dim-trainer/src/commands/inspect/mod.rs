//! `dim-trainer inspect`: what a file or a folder is, told by its content, for people or as JSON.
//!
//! Of a network it tells size and cost from the configuration alone; nothing of its size is allocated.

mod folder;
mod log;
mod network;
mod picture;
mod report;
mod weights;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use dim_model::weights::DiffusersFolder;

use self::report::Report;
use crate::cli::InspectArgs;
use crate::config::Config;
use crate::error::TrainerError;
use crate::png_file;
use crate::run_folder::RunFolder;

pub(super) fn run(arguments: InspectArgs) -> Result<u8, TrainerError> {
    let InspectArgs { path, config, weights, run, set, json } = arguments;
    let report = match (path, config, weights, run) {
        (Some(path), ..) => anything(&path)?,
        (_, Some(path), ..) => configuration(&path, &set)?,
        (_, _, Some(path), _) => weights::report(&path)?,
        (_, _, _, Some(path)) => folder::run(&RunFolder::new(path))?,
        _ => return Err(TrainerError::Usage("expected a path".to_owned())),
    };
    if json {
        println!("{}", report.json())
    } else {
        print!("{}", report.text())
    }
    Ok(0)
}

/// Tells by its content what stands at `path`.
fn anything(path: &Path) -> Result<Report, TrainerError> {
    if path.is_dir() {
        let run = RunFolder::new(path);
        return match () {
            () if run.config().is_file() || run.checkpoints().is_dir() => folder::run(&run),
            () if DiffusersFolder::is_one(path) => folder::diffusers(path),
            () => folder::pictures(path),
        };
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.map_err(|source| TrainerError::read(path, source))?;
    if start.starts_with(png_file::SIGNATURE) {
        return picture::report(path);
    }
    // A zip archive, a pickle, or the length of a header in eight bytes, of which the last are 0.
    if start.starts_with(b"PK") || start.starts_with(b"\x80") || start.contains(&0) {
        return weights::report(path);
    }
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) if text.trim_start().starts_with('{') => log::report(path, &text),
        Ok(Ok(text)) if text.contains('=') => configuration(path, &[]),
        Ok(_) => Err(TrainerError::Unsupported(format!(
            "{} is nothing that this program knows: expected weights (safetensors or PyTorch), a configuration (TOML), a log \
             (JSON lines), a PNG, or the folder of a run, of samples or of diffusers' AutoencoderKL",
            path.display()
        ))),
        Err(source) => Err(TrainerError::read(path, source)),
    }
}

fn configuration(path: &Path, overrides: &[String]) -> Result<Report, TrainerError> {
    let mut report = Report::new("configuration", path);
    network::describe(&mut report, &Config::load(path, overrides)?);
    Ok(report)
}
