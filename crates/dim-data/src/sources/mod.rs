//! Where images come from, one format a file.

mod cifar10;
mod fashion_mnist;
mod features;
mod files;
mod folder;
pub mod idx;
mod openmoji;
mod webdataset;

pub use cifar10::{Cifar10, Cifar10Config};
pub use fashion_mnist::{FashionMnist, FashionMnistConfig};
pub use features::{Features, FeaturesConfig};
pub use files::ImageFiles;
pub use folder::{Folder, FolderConfig};
pub use openmoji::{ClassBy, OpenMoji, OpenMojiConfig};
pub use webdataset::{WebDataset, WebDatasetConfig};

use std::fs;
use std::path::Path;

use crate::DataError;

/// Checks that a folder is there and not empty.
fn check_folder(path: &Path, expected: &'static str, mend: &'static str) -> Result<(), DataError> {
    if !path.is_dir() {
        return Err(DataError::MissingFolder { path: path.to_owned(), expected, mend });
    }
    let mut entries = fs::read_dir(path).map_err(|error| DataError::Io {
        path: path.to_owned(),
        doing: "listing the folder",
        error,
        mend,
    })?;
    if entries.next().is_none() {
        return Err(DataError::NoImages {
            path: path.to_owned(),
            expected: expected.to_owned(),
            found: "an empty folder".into(),
            mend,
        });
    }
    Ok(())
}
