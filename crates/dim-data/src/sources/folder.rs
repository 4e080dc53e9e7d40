//! Folders of images, one folder a class, as ImageNet and most people's own pictures come.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check_folder;
use crate::decode::decode_file;
use crate::source::check_request;
use crate::transform::centre_crop;
use crate::{DataError, ImageSource, Sample};

const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];
const EXPECTED: &str = "one folder per class with PNG, JPEG, WebP or BMP images";
const MEND: &str = "check `path`; it must hold one folder per class (a single one will do), each with images";

/// Where a folder of images is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Folder whose subfolders are the classes.
    pub path: PathBuf,
}

/// Images in folders: the subfolders, sorted by name, are the classes; images may lie at any depth inside them.
///
/// Files of other kinds and names that begin with a dot are passed over. Images are decoded when they are asked for, as
/// RGB, what is transparent over white.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    classes: Vec<String>,
    class_folders: Vec<PathBuf>,
    images: Vec<Entry>,
}

/// One image of a million: only the path below its class folder is kept.
#[derive(Debug)]
struct Entry {
    class: u32,
    path: Box<Path>,
}

impl Folder {
    /// Lists the images without opening them.
    ///
    /// # Errors
    ///
    /// Missing folder, empty folder, a class folder without images, an image outside the class folders: see
    /// [`DataError`].
    pub fn open(config: &FolderConfig) -> Result<Self, DataError> {
        let root = config.path.clone();
        check_folder(&root, EXPECTED, MEND)?;
        let (class_folders, files) = list(&root)?;
        if let Some(path) = files.iter().find(|path| is_image(path)) {
            return Err(DataError::ImageOutsideClass { path: path.clone(), mend: MEND });
        }
        if class_folders.is_empty() {
            return Err(DataError::NoImages {
                path: root,
                expected: EXPECTED.into(),
                found: described(&files),
                mend: MEND,
            });
        }
        let mut images = Vec::new();
        for (class, folder) in class_folders.iter().enumerate() {
            let first = images.len();
            let mut others = Vec::new();
            collect(folder, &mut |path| match path.strip_prefix(folder) {
                Ok(below) if is_image(path) => images.push(Entry { class: class as u32, path: below.into() }),
                _ => others.push(path.to_owned()),
            })?;
            if images.len() == first {
                return Err(DataError::NoImages {
                    path: folder.clone(),
                    expected: "PNG, JPEG, WebP or BMP images".into(),
                    found: described(&others),
                    mend: MEND,
                });
            }
        }
        let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let classes = class_folders.iter().map(name).collect();
        Ok(Self { root, classes, class_folders, images })
    }

    /// The folder whose subfolders are the classes.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, index: usize) -> PathBuf {
        let entry = &self.images[index];
        self.class_folders[entry.class as usize].join(&entry.path)
    }
}

/// Calls `visit` with every file below a folder, in the order of their names, which does not depend on the file system.
pub(super) fn collect(folder: &Path, visit: &mut dyn FnMut(&Path)) -> Result<(), DataError> {
    let (folders, files) = list(folder)?;
    files.iter().for_each(|path| visit(path));
    folders.iter().try_for_each(|folder| collect(folder, visit))
}

/// Folders and files of a folder, each sorted by name; names that begin with a dot are passed over.
fn list(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let io_error = |error| DataError::Io { path: folder.to_owned(), doing: "listing the folder", error, mend: MEND };
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if is_folder(&entry) { folders.push(entry.path()) } else { files.push(entry.path()) }
    }
    folders.sort_unstable();
    files.sort_unstable();
    Ok((folders, files))
}

/// Whether an entry is a folder or a link to one; asks the file system again only about links.
fn is_folder(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()))
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// What a folder holds in place of images, for a message.
pub(super) fn described(files: &[PathBuf]) -> String {
    match files {
        [] => "no file".into(),
        [only] => format!("only {}", only.display()),
        [first, rest @ ..] => format!("{} and {} more file(s), none of them an image", first.display(), rest.len()),
    }
}

impl ImageSource for Folder {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn load(&self, index: usize, size: usize) -> Result<Sample, DataError> {
        check_request(index, self.len(), size)?;
        let image = centre_crop(&decode_file(&self.path(index))?, size)?;
        Ok(Sample { image, class: self.images[index].class as usize })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use image::{Rgb, RgbImage};

    fn write(root: &Path, name: &str, value: u8) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if is_image(&path) {
            // JPEG changes colours a little, but not those of a grey plane.
            RgbImage::from_pixel(8, 6, Rgb([value; 3])).save(path).unwrap();
        } else {
            fs::write(path, "text").unwrap();
        }
    }

    fn open(path: &Path) -> Result<Folder, DataError> {
        Folder::open(&FolderConfig { path: path.to_owned() })
    }

    #[test]
    fn classes_and_images_are_sorted_by_name_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let names =
            ["b/z.png", "b/2/a.JPG", "a/y.webp", "a/x.bmp", "b/1/c.jpeg", "b/notes.txt", "read.me", ".git/x.png"];
        for (value, name) in names.into_iter().enumerate() {
            write(root.path(), name, value as u8 * 20);
        }
        let source = open(root.path()).unwrap();
        assert_eq!(source.classes(), ["a", "b"]);
        let expected = ["a/x.bmp", "a/y.webp", "b/z.png", "b/1/c.jpeg", "b/2/a.JPG"];
        assert_eq!(source.len(), expected.len());
        for (index, name) in expected.into_iter().enumerate() {
            assert_eq!(source.name(index), root.path().join(name).display().to_string());
            let sample = source.load(index, 4).unwrap();
            assert_eq!(source.classes()[sample.class], name[..1]);
            let value = names.iter().position(|n| *n == name).unwrap() as u8 * 20;
            assert_eq!(sample.image.pixels(), [value; 4 * 4 * 3], "{name}");
        }
    }

    #[test]
    fn a_truncated_image_is_named_when_it_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a/good.png", 1);
        let good = fs::read(root.path().join("a/good.png")).unwrap();
        fs::write(root.path().join("a/cut.png"), &good[..good.len() / 2]).unwrap();
        let source = open(root.path()).unwrap();
        let error = source.load(0, 4).unwrap_err().to_string();
        assert!(error.contains("a/cut.png: cannot be read as an image: "), "{error}");
        assert!(source.load(1, 4).is_ok());
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let message = |root: &Path| open(root).unwrap_err().to_string();
        assert!(message(Path::new("/nowhere")).starts_with("/nowhere: no such folder; expected one folder per class"));
        let root = tempfile::tempdir().unwrap();
        assert!(message(root.path()).contains("found an empty folder. Mend: check `path`"));
        write(root.path(), "notes.txt", 0);
        assert!(message(root.path()).contains("found only"), "{}", message(root.path()));
        write(root.path(), "a/x.png", 0);
        assert!(open(root.path()).is_ok());
        fs::create_dir(root.path().join("b")).unwrap();
        assert!(message(root.path()).contains("b: expected PNG, JPEG, WebP or BMP images, found no file"));
        write(root.path(), "b/x.png", 0);
        write(root.path(), "stray.png", 0);
        assert!(message(root.path()).contains("stray.png: expected every image inside a class folder"));
    }
}
