//! Image files below a folder, each at its own size: sets of images to be compared, not to be trained on.

use std::path::{Path, PathBuf};

use super::check_folder;
use super::folder::{collect, described, is_image};
use crate::decode::decode_file;
use crate::{DataError, Image};

const EXPECTED: &str = "PNG, JPEG, WebP or BMP images, at any depth";
const MEND: &str = "name the folder that holds the images";

/// Every PNG, JPEG, WebP and BMP file below a folder, sorted by name; decoded when asked for, as RGB, what is transparent over white.
#[derive(Debug)]
pub struct ImageFiles {
    paths: Vec<PathBuf>,
}

impl ImageFiles {
    /// Lists the images without opening them; names that begin with a dot are passed over.
    ///
    /// # Errors
    ///
    /// [`DataError::MissingFolder`], [`DataError::NoImages`], [`DataError::Io`].
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        check_folder(folder, EXPECTED, MEND)?;
        let (mut paths, mut others) = (Vec::new(), Vec::new());
        collect(folder, MEND, &mut |path| {
            if is_image(path) { paths.push(path.to_owned()) } else { others.push(path.to_owned()) }
        })?;
        if paths.is_empty() {
            let (path, found) = (folder.to_owned(), described(&others));
            return Err(DataError::NoImages { path, expected: EXPECTED.into(), found, mend: MEND });
        }
        Ok(Self { paths })
    }

    /// The files, in order; at least one.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Decodes one of the files.
    ///
    /// # Errors
    ///
    /// [`DataError::BrokenImage`].
    pub fn load(path: &Path) -> Result<Image, DataError> {
        decode_file(path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use image::{Rgb, RgbImage};

    use super::*;

    #[test]
    fn images_are_found_at_any_depth_and_keep_their_size() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ImageFiles::open(folder.path()).unwrap_err().to_string().contains("an empty folder"));
        fs::write(folder.path().join("notes.txt"), "text").unwrap();
        assert!(ImageFiles::open(folder.path()).unwrap_err().to_string().contains("found only"));
        fs::create_dir(folder.path().join("b")).unwrap();
        for (name, width, value) in [("z.png", 3, 7), ("b/a.bmp", 5, 9)] {
            RgbImage::from_pixel(width, 2, Rgb([value; 3])).save(folder.path().join(name)).unwrap();
        }
        let files = ImageFiles::open(folder.path()).unwrap();
        let images: Vec<Image> = files.paths().iter().map(|path| ImageFiles::load(path).unwrap()).collect();
        assert_eq!(images.iter().map(|image| (image.width(), image.pixels()[0])).collect::<Vec<_>>(), [(3, 7), (5, 9)]);
        assert!(ImageFiles::open(&folder.path().join("c")).unwrap_err().to_string().contains("no such folder"));
    }
}
