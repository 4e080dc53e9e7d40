//! The folder of a run, and where things stand in it.
//!
//! ```text
//! RUN/config.toml                        the resolved configuration
//! RUN/log.jsonl, RUN/events.out.tfevents.*   loss, gradient norm, speed
//! RUN/sessions.jsonl                     when it began, went on and ended, by what and on what
//! RUN/checkpoints/000000012800.safetensors   all that resume needs, by images seen
//! RUN/checkpoints/000000012800.*.shard       of one that several processes wrote, its parts
//! RUN/snapshots/000000012800.safetensors     weights for inference (EMA)
//! RUN/best.safetensors                   weights for inference, of the lowest distance that `[evaluation]` found
//! RUN/ema/000000012800.safetensors           averages under power-function profiles
//! RUN/samples/000000012800.png               pictures
//! RUN/report.html                        what `dim-trainer report` made of all this
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::TrainerError;
use crate::files;
use crate::train::shards;

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The log, one JSON object a line.
    pub fn log(&self) -> PathBuf {
        self.path.join("log.jsonl")
    }

    /// When the run began, went on and ended, one JSON object a line.
    pub fn sessions(&self) -> PathBuf {
        self.path.join("sessions.jsonl")
    }

    /// The page that shows the run.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The folder of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The checkpoint after `images_seen` images.
    pub fn checkpoint(&self, images_seen: u64) -> PathBuf {
        self.checkpoints().join(file_name(images_seen, "safetensors"))
    }

    /// The snapshot after `images_seen` images.
    pub fn snapshot(&self, images_seen: u64) -> PathBuf {
        self.path.join("snapshots").join(file_name(images_seen, "safetensors"))
    }

    /// The snapshot of the lowest distance so far.
    pub fn best_snapshot(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The folder of averages under power-function profiles.
    pub fn ema_snapshots(&self) -> PathBuf {
        self.path.join("ema")
    }

    /// Those after `images_seen` images.
    pub fn ema_snapshot(&self, images_seen: u64) -> PathBuf {
        self.ema_snapshots().join(file_name(images_seen, "safetensors"))
    }

    /// The pictures, by images seen.
    ///
    /// # Errors
    /// [`TrainerError::Read`].
    pub(crate) fn all_samples(&self) -> Result<Vec<(u64, PathBuf)>, TrainerError> {
        self.all_in("samples", "png")
    }

    /// The snapshots, by images seen.
    ///
    /// # Errors
    /// [`TrainerError::Read`].
    pub(crate) fn all_snapshots(&self) -> Result<Vec<(u64, PathBuf)>, TrainerError> {
        self.all_in("snapshots", "safetensors")
    }

    /// The files with averages under power-function profiles, by images seen.
    ///
    /// # Errors
    /// [`TrainerError::Read`].
    pub(crate) fn all_ema_snapshots(&self) -> Result<Vec<(u64, PathBuf)>, TrainerError> {
        self.all_in("ema", "safetensors")
    }

    fn all_in(&self, folder: &str, extension: &str) -> Result<Vec<(u64, PathBuf)>, TrainerError> {
        let inside = files::list(&self.path.join(folder))?.into_iter();
        let mut found: Vec<_> = inside.filter_map(|path| Some((images_seen_of(&path, extension)?, path))).collect();
        found.sort();
        Ok(found)
    }

    /// The grid of samples after `images_seen` images.
    pub fn samples(&self, images_seen: u64) -> PathBuf {
        self.path.join("samples").join(file_name(images_seen, "png"))
    }

    /// Refuses a folder that holds a run already. Configuration and logs alone are no run: they are what is left of one that
    /// failed before it got anywhere.
    ///
    /// # Errors
    /// [`TrainerError::RunExists`]; [`TrainerError::Read`].
    pub fn refuse_existing(&self) -> Result<(), TrainerError> {
        let of_value = |path: &PathBuf| FOLDERS.iter().any(|(folder, _)| path.starts_with(self.path.join(folder)));
        match self.files()?.into_iter().find(of_value) {
            None => Ok(()),
            Some(found) => {
                let found = found.strip_prefix(&self.path).unwrap_or(&found).display().to_string();
                Err(TrainerError::RunExists { path: self.path.clone(), found })
            }
        }
    }

    /// Makes the folder ready for a new run: the files of an earlier run in it are removed, and nothing else.
    ///
    /// # Errors
    /// [`TrainerError::Read`] or [`TrainerError::Write`].
    pub fn clear(&self) -> Result<(), TrainerError> {
        for file in self.files()? {
            fs::remove_file(&file).map_err(|source| TrainerError::write(&file, source))?;
        }
        self.create_folders()
    }

    /// Creates the folders that are missing and removes files that a killed process left half written.
    ///
    /// # Errors
    /// [`TrainerError::Write`].
    pub fn create_folders(&self) -> Result<(), TrainerError> {
        for folder in FOLDERS.map(|(name, _)| self.path.join(name)) {
            files::create_folder(&folder)?;
            files::remove_leftovers(&folder)?;
        }
        shards::remove_orphans(&self.checkpoints())
    }

    /// Every file of a run that stands here.
    fn files(&self) -> Result<Vec<PathBuf>, TrainerError> {
        let single = [self.config(), self.log(), self.sessions(), self.report(), self.best_snapshot()];
        let mut found: Vec<PathBuf> = single.into_iter().filter(|path| path.exists()).collect();
        found.extend(files::list(&self.path)?.into_iter().filter(|path| name_of(path).contains(".tfevents.")));
        for (folder, extension) in FOLDERS {
            let inside = files::list(&self.path.join(folder))?;
            found.extend(inside.into_iter().filter(|path| images_seen_of(path, extension).is_some()));
        }
        found.extend(files::list(&self.checkpoints())?.into_iter().filter(|path| shards::is_part(path)));
        Ok(found)
    }
}

/// The folders of a run and the extension of what is in them.
const FOLDERS: [(&str, &str); 4] =
    [("checkpoints", "safetensors"), ("snapshots", "safetensors"), ("ema", "safetensors"), ("samples", "png")];

/// Twelve digits, so that names sort as numbers do.
fn file_name(images_seen: u64, extension: &str) -> String {
    format!("{images_seen:012}.{extension}")
}

/// The number of images in the name of a file of ours.
pub(crate) fn images_seen_of(path: &Path, extension: &str) -> Option<u64> {
    let stem = name_of(path).strip_suffix(extension)?.strip_suffix('.')?.to_owned();
    if stem.len() >= 12 && stem.bytes().all(|byte| byte.is_ascii_digit()) { stem.parse().ok() } else { None }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_run_is_not_overwritten_unless_asked() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path().join("run"));
        run.refuse_existing().unwrap();
        run.clear().unwrap();
        fs::write(run.log(), b"").unwrap();
        run.refuse_existing().unwrap();
        fs::write(run.checkpoint(128), b"").unwrap();
        let error = run.refuse_existing().unwrap_err().to_string();
        assert!(error.contains("checkpoints/000000000128.safetensors") && error.contains("--overwrite"), "{error}");
    }

    #[test]
    fn overwriting_removes_the_run_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        run.clear().unwrap();
        let foreign = [
            folder.path().join("notes.txt"),
            run.checkpoints().join("best.safetensors"),
            run.checkpoints().join("1.safetensors"),
        ];
        for path in foreign.iter().chain([
            &run.config(),
            &run.log(),
            &run.sessions(),
            &run.report(),
            &run.checkpoint(8),
            &run.samples(8),
            &run.snapshot(8),
            &run.ema_snapshot(8),
        ]) {
            fs::write(path, b"").unwrap();
        }
        run.clear().unwrap();
        assert!(foreign.iter().all(|path| path.exists()));
        assert!(
            [run.config(), run.log(), run.checkpoint(8), run.samples(8), run.snapshot(8), run.ema_snapshot(8)]
                .iter()
                .all(|path| !path.exists())
        );
    }
}
