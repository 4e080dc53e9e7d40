//! Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747): 70,000 grey images of clothes, 28 x 28, 10 classes, in IDX.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check_folder;
use super::idx::{self, IdxImages};
use crate::source::check_request;
use crate::transform::{centre_crop, to_rgb};
use crate::{DataError, Image, ImageSource, Sample, Split};

const CLASSES: [&str; 10] =
    ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const EXPECTED: &str = "Fashion-MNIST's files (train-images-idx3-ubyte, train-labels-idx1-ubyte and so on, .gz or not)";
const MEND: &str = "run `cargo xtask setup`, or put the four files of Fashion-MNIST there again";

/// Where Fashion-MNIST is and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FashionMnistConfig {
    /// Folder that holds the IDX files.
    pub path: PathBuf,
    /// Training or test images.
    #[serde(default)]
    pub split: Split,
    /// Give three equal channels in place of one.
    #[serde(default)]
    pub rgb: bool,
}

/// Fashion-MNIST, or any data set of its layout with at most its ten classes, held in memory.
#[derive(Debug)]
pub struct FashionMnist {
    images: IdxImages,
    labels: Vec<u8>,
    images_path: PathBuf,
    classes: Vec<String>,
    rgb: bool,
}

impl FashionMnist {
    /// Reads one split.
    ///
    /// # Errors
    ///
    /// Missing folder or file, wrong magic number, truncation, counts that differ, a class above 9: see [`DataError`].
    pub fn open(config: &FashionMnistConfig) -> Result<Self, DataError> {
        check_folder(&config.path, EXPECTED, MEND)?;
        let prefix = match config.split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        let images_path = find(&config.path, &format!("{prefix}-images-idx3-ubyte"))?;
        let labels_path = find(&config.path, &format!("{prefix}-labels-idx1-ubyte"))?;
        let images = idx::read_images(&images_path, MEND)?;
        let labels = idx::read_labels(&labels_path, MEND)?;
        if images.count != labels.len() {
            return Err(DataError::CountMismatch {
                images_path,
                images: images.count,
                labels_path,
                labels: labels.len(),
                mend: MEND,
            });
        }
        if let Some(index) = labels.iter().position(|&class| usize::from(class) >= CLASSES.len()) {
            return Err(DataError::ClassOutOfRange {
                path: labels_path,
                index,
                class: labels[index].into(),
                classes: CLASSES.len(),
                mend: MEND,
            });
        }
        Ok(Self { images, labels, images_path, classes: CLASSES.map(String::from).into(), rgb: config.rgb })
    }
}

/// The file of that name, or else the one with `.gz` after it.
fn find(folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    let path = folder.join(name);
    let compressed = folder.join(format!("{name}.gz"));
    if path.is_file() {
        Ok(path)
    } else if compressed.is_file() {
        Ok(compressed)
    } else {
        Err(DataError::MissingFile { path, expected: "an IDX file of that name, or with .gz after it", mend: MEND })
    }
}

impl ImageSource for FashionMnist {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn channels(&self) -> usize {
        if self.rgb { 3 } else { 1 }
    }

    fn name(&self, index: usize) -> String {
        format!("{}[{index}]", self.images_path.display())
    }

    fn load(&self, index: usize, size: usize) -> Result<Sample, DataError> {
        check_request(index, self.len(), size)?;
        let (rows, columns) = (self.images.rows, self.images.columns);
        let pixels = self.images.pixels[index * rows * columns..][..rows * columns].to_vec();
        let image = centre_crop(&Image::new(columns, rows, 1, pixels)?, size)?;
        Ok(Sample { image: if self.rgb { to_rgb(image)? } else { image }, class: self.labels[index].into() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::idx::tests::{encode, gzip};
    use super::*;
    use std::fs;

    fn folder(images: &[u8], labels: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let images = encode(&[images.len() / 4, 2, 2], images);
        fs::write(folder.path().join("train-images-idx3-ubyte.gz"), gzip(&images)).unwrap();
        fs::write(folder.path().join("train-labels-idx1-ubyte"), encode(&[labels.len()], labels)).unwrap();
        folder
    }

    fn open(folder: &Path, split: Split, rgb: bool) -> Result<FashionMnist, DataError> {
        FashionMnist::open(&FashionMnistConfig { path: folder.to_owned(), split, rgb })
    }

    #[test]
    fn images_and_classes_come_in_file_order() {
        let folder = folder(&[0, 50, 100, 150, 9, 9, 9, 9], &[7, 0]);
        let source = open(folder.path(), Split::Train, false).unwrap();
        assert_eq!((source.len(), source.channels(), source.classes()[7].as_str()), (2, 1, "Sneaker"));
        let sample = source.load(0, 2).unwrap();
        assert_eq!((sample.image.pixels(), sample.class), (&[0, 50, 100, 150][..], 7));
        assert_eq!(source.load(1, 3).unwrap().image.pixels(), [9; 9]);
        assert!(source.name(1).ends_with("train-images-idx3-ubyte.gz[1]"));

        let rgb = open(folder.path(), Split::Train, true).unwrap();
        assert_eq!(rgb.load(0, 2).unwrap().image.pixels(), [0, 0, 0, 50, 50, 50, 100, 100, 100, 150, 150, 150]);
        assert_eq!(rgb.channels(), 3);
    }

    #[test]
    fn requests_out_of_range_are_refused() {
        let folder = folder(&[0; 4], &[0]);
        let source = open(folder.path(), Split::Train, false).unwrap();
        assert!(matches!(source.load(1, 2), Err(DataError::Argument { name: "index", .. })));
        assert!(matches!(source.load(0, 0), Err(DataError::Argument { name: "image size", .. })));
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let missing = open(Path::new("/nowhere"), Split::Train, false).unwrap_err();
        assert!(
            missing.to_string().starts_with("/nowhere: no such folder; expected Fashion-MNIST's files"),
            "{missing}"
        );
        let empty = tempfile::tempdir().unwrap();
        let error = open(empty.path(), Split::Train, false).unwrap_err();
        assert!(error.to_string().contains("found an empty folder"), "{error}");

        let good = folder(&[0; 8], &[0, 1]);
        let error = open(good.path(), Split::Test, false).unwrap_err();
        assert!(error.to_string().contains("t10k-images-idx3-ubyte: no such file"), "{error}");
        assert!(error.to_string().contains("cargo xtask setup"), "{error}");

        let error = open(folder(&[0; 8], &[0, 1, 2]).path(), Split::Train, false).unwrap_err();
        assert!(matches!(error, DataError::CountMismatch { images: 2, labels: 3, .. }), "{error}");
        let error = open(folder(&[0; 8], &[0, 10]).path(), Split::Train, false).unwrap_err();
        assert!(error.to_string().contains("item 1 has class 10; expected a class from 0 to 9"), "{error}");
    }
}
