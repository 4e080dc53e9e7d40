//! What images are judged by: a folder, a file of ours, or an `.npz` of another program.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use dim_data::sources::ImageFiles;
use tch::Device;

use super::folder::{FolderSets, Folders};
use super::metric::Needs;
use super::npz::read_npz;
use super::set::Set;
use crate::error::TrainerError;
use crate::progress::Progress;

/// How a zip archive begins.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// Images, or what was known of some.
pub(crate) enum Reference {
    Folder(PathBuf, ImageFiles),
    Statistics(Box<Set>),
}

impl Reference {
    /// Looks at `path`; files are read, a folder's images are not.
    ///
    /// # Errors
    /// [`TrainerError::Data`] for what is not there or holds no images, [`TrainerError::NotStatistics`], [`TrainerError::Usage`] for less than
    /// two images.
    pub(crate) fn open(path: &Path, device: Device) -> Result<Self, TrainerError> {
        if path.is_file() {
            let mut start = Vec::new();
            let read = File::open(path).and_then(|file| file.take(ZIP.len() as u64).read_to_end(&mut start));
            read.map_err(|source| TrainerError::read(path, source))?;
            let set = if start == ZIP { read_npz(path)? } else { Set::load(path, device)? };
            return Ok(Self::Statistics(Box::new(set)));
        }
        Ok(Self::Folder(path.to_owned(), folder(path)?))
    }

    /// What is known of it.
    ///
    /// # Errors
    /// As [`Folders::measure`].
    pub(crate) fn measure(self, folders: &Folders<'_>, needs: Needs) -> Result<FolderSets, TrainerError> {
        match self {
            Self::Folder(path, files) => measured(folders, &files, &path, needs),
            Self::Statistics(set) => Ok(FolderSets { whole: *set, patches: None }),
        }
    }
}

/// The images of a folder, of which there must be two.
pub(crate) fn folder(path: &Path) -> Result<ImageFiles, TrainerError> {
    let files = ImageFiles::open(path)?;
    if files.paths().len() < 2 {
        return Err(TrainerError::Usage(format!("{}: one image has no covariance; give more", path.display())));
    }
    Ok(files)
}

/// Measures a folder under a bar, which shows this process's share.
pub(crate) fn measured(
    folders: &Folders<'_>,
    files: &ImageFiles,
    path: &Path,
    needs: Needs,
) -> Result<FolderSets, TrainerError> {
    let (processes, leads) = folders.world.map_or((1, true), |world| (world.size(), world.leads()));
    let share = files.paths().len() / processes;
    let mut progress = Progress::shown_if(leads, "images", share);
    let subject = serde_json::json!({ "folder": path });
    let sets = folders.measure(files, subject, needs, |done| progress.update(done, share));
    progress.finish();
    sets
}
