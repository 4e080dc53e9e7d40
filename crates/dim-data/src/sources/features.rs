//! Folders of moments as the authors' scripts leave them: one NumPy file an image.
//!
//! - `{i}.npy.npz` (also `{i}.npz`): an archive with `z` [2 × channel, row, column] and `label`, from DiM's
//!   `extract_imagenet_feature.py`. Mirror images are files of their own.
//! - `NAME_….npy`, at any depth: the moments alone; the classes are the parts of the names before the first `_`, sorted, such as
//!   ImageNet's `n01440764`. Names without a `_`, such as `{i}.npy`: all of one class.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use half::f16;
use npyz::{NpyFile, Order, TypeChar};
use rawzip::{CompressionMethod, ZipArchive};
use serde::{Deserialize, Serialize};

use super::check_folder;
use super::folder::{collect, described};
use crate::{DataError, Source};

/// Bounds of the logarithm of a latent's variance; the files hold what the encoder gave, before it is bounded.
const LOG_VARIANCE: (f32, f32) = (-30.0, 20.0);
const EXPECTED: &str = "moments as the authors' scripts leave them: {i}.npy.npz with z and label, or .npy files";
const MEND: &str = "check `path`; files that hold Python objects are read once in Python and saved with np.savez(name, z=z, label=label)";

/// Where a folder of moments is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesConfig {
    /// The folder.
    pub path: PathBuf,
    /// How many classes the labels in `.npz` files are of; they are called by their numbers.
    #[serde(default = "imagenet")]
    pub classes: usize,
}

fn imagenet() -> usize {
    1000
}

/// Moments in a folder of NumPy files, in the order of their numbers or names. A file is read when it is asked for.
#[derive(Debug)]
pub struct Features {
    root: PathBuf,
    /// Below `root`, and the class if the name tells it.
    files: Vec<(Box<Path>, Option<u32>)>,
    classes: Vec<String>,
    /// Of every file: twice the channels of the latent, rows and columns.
    shape: [usize; 3],
    notes: Vec<String>,
}

impl Features {
    /// Lists the files and opens the first.
    ///
    /// # Errors
    ///
    /// Missing or empty folder, files of both layouts, a first file that cannot be read: see [`DataError`].
    pub fn open(config: &FeaturesConfig) -> Result<Self, DataError> {
        let root = &config.path;
        check_folder(root, EXPECTED, MEND)?;
        let (mut archives, mut arrays, mut others) = (Vec::new(), Vec::new(), Vec::new());
        collect(root, MEND, &mut |path: &Path| match (
            path.extension().and_then(|it| it.to_str()),
            path.strip_prefix(root),
        ) {
            (Some("npz"), Ok(below)) => archives.push(Box::<Path>::from(below)),
            (Some("npy"), Ok(below)) => arrays.push(Box::<Path>::from(below)),
            _ => others.push(path.to_owned()),
        })?;
        let mut notes = Vec::new();
        if !others.is_empty() {
            notes.push(format!("{} file(s) that are no .npz or .npy are passed over", others.len()));
        }
        let (files, classes) = match (archives.is_empty(), arrays.is_empty()) {
            (true, true) => {
                let found = described(&others);
                let path = root.clone();
                return Err(DataError::NoImages { path, expected: EXPECTED.into(), found, mend: MEND });
            }
            (false, false) => {
                let found = format!("{} .npz and {} .npy", archives.len(), arrays.len());
                return Err(wrong(root, "files of one kind", found));
            }
            (false, true) => {
                if config.classes == 0 {
                    return Err(wrong(root, "`classes` of at least 1 in the configuration", "0".into()));
                }
                archives.sort_by_cached_key(|path| (number(path), path.clone()));
                notes.extend(gaps(&archives));
                let classes = (0..config.classes).map(|class| class.to_string()).collect();
                (archives.into_iter().map(|path| (path, None)).collect(), classes)
            }
            (true, false) => {
                arrays.sort_by_cached_key(|path| (number(path), path.clone()));
                let names: BTreeMap<String, u32> =
                    arrays.iter().map(|path| (class_name(path), 0)).collect::<BTreeMap<_, _>>();
                let names: BTreeMap<String, u32> = names.into_keys().zip(0..).collect();
                let files = arrays.into_iter().map(|path| {
                    let class = names.get(&class_name(&path)).copied();
                    (path, class)
                });
                (files.collect::<Vec<_>>(), names.into_keys().collect())
            }
        };
        let mut features = Self { root: root.clone(), files, classes, shape: [0; 3], notes };
        let broken = |reason| DataError::BrokenRecord { path: features.path(0), reason };
        features.shape = features.read(0).map_err(broken)?.shape;
        match features.shape {
            [channels, rows, columns] if channels % 2 == 0 && rows == columns => Ok(features),
            shape => {
                let path = features.path(0);
                Err(wrong(&path, "moments [an even number of channels, row, as many columns]", format!("{shape:?}")))
            }
        }
    }

    /// Rows, and columns, of a latent.
    #[must_use]
    pub fn latent_size(&self) -> usize {
        self.shape[1]
    }

    fn path(&self, index: usize) -> PathBuf {
        self.root.join(&self.files[index].0)
    }

    /// Reads a file; the error is the reason alone.
    fn read(&self, index: usize) -> Result<Array, String> {
        let (path, class) = &self.files[index];
        let bytes = fs::read(self.root.join(path)).map_err(|error| error.to_string())?;
        match class {
            Some(class) => Array { class: *class as usize, ..array(&bytes)? }.checked(&self.classes),
            None => {
                let class = label(&member(&bytes, "label.npy")?)?;
                Array { class, ..array(&member(&bytes, "z.npy")?)? }.checked(&self.classes)
            }
        }
    }
}

/// The moments of a file.
struct Array {
    shape: [usize; 3],
    values: Vec<f32>,
    class: usize,
}

impl Array {
    fn checked(self, classes: &[String]) -> Result<Self, String> {
        if self.class >= classes.len() {
            return Err(format!("its label is {}, expected from 0 to {}", self.class, classes.len() - 1));
        }
        match self.values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("it holds {value}, expected finite numbers")),
            None => Ok(self),
        }
    }
}

/// The number that a name is, so that 10 follows 9.
fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

/// Says so if numbered files do not count from 0 without a gap, as after a copy that was cut off.
fn gaps(files: &[Box<Path>]) -> Option<String> {
    let last = number(files.last()?)?;
    let missing = (last + 1).checked_sub(files.len() as u64).filter(|&missing| missing > 0)?;
    Some(format!("the numbers go to {last}, but {missing} of the files are missing"))
}

/// The name of the class of a file of moments alone.
fn class_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.split_once('_').map_or_else(|| "all".to_owned(), |(class, _)| class.to_owned())
}

/// A member of an archive of `np.savez` or `np.savez_compressed`.
fn member(archive: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let damaged = |error: rawzip::Error| format!("it is no whole .npz archive ({error})");
    let zip = ZipArchive::from_slice(archive).map_err(damaged)?;
    let mut entries = zip.entries();
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        if entry.file_path().as_bytes() != name.as_bytes() {
            continue;
        }
        // A file as small as these cannot be much larger unpacked; the limit holds off what was made to harm.
        let longest = 1100 * archive.len() as u64;
        let local = zip.get_entry(entry.wayfinder()).map_err(damaged)?;
        let mut bytes = Vec::new();
        let read = match entry.compression_method() {
            CompressionMethod::STORE => local.verifying_reader(local.data()).take(longest).read_to_end(&mut bytes),
            CompressionMethod::DEFLATE => {
                let inflated = flate2::bufread::DeflateDecoder::new(local.data());
                local.verifying_reader(inflated).take(longest).read_to_end(&mut bytes)
            }
            _ => return Err(format!("its `{name}` is packed in an unknown way")),
        };
        return read.map(|_| bytes).map_err(|error| format!("its `{name}` is damaged ({error})"));
    }
    Err(format!("it has no `{name}`"))
}

/// A NumPy file whose header has been read, the letter of its numbers' kind and their width in bytes.
type Npy<'a> = (NpyFile<Cursor<&'a [u8]>>, char, u64);

/// The header of a NumPy file and what follows it.
fn npy(bytes: &[u8]) -> Result<Npy<'_>, String> {
    let file = NpyFile::new(Cursor::new(bytes)).map_err(|error| format!("it is no NumPy file ({error})"))?;
    let kind = match file.dtype() {
        npyz::DType::Plain(kind) => kind,
        other => return Err(format!("it holds {}, expected numbers", other.descr())),
    };
    let letter = match kind.type_char() {
        TypeChar::Float => 'f',
        TypeChar::Int => 'i',
        TypeChar::Uint => 'u',
        TypeChar::Object => return Err("it holds Python objects, which only Python reads".into()),
        _ => return Err(format!("it holds {kind}, expected numbers")),
    };
    Ok((file, letter, kind.size_field()))
}

fn array(bytes: &[u8]) -> Result<Array, String> {
    let (file, letter, width) = npy(bytes)?;
    let &[channels, rows, columns] = file.shape() else {
        return Err(format!("it has the shape {:?}, expected [channel, row, column]", file.shape()));
    };
    let limit = bytes.len() as u64;
    if [channels, rows, columns].iter().any(|&side| side == 0 || side > limit) || file.order() != Order::C {
        return Err(format!(
            "it has the shape {:?} in {:?} order, expected rows after rows",
            file.shape(),
            file.order()
        ));
    }
    let shape = [channels as usize, rows as usize, columns as usize];
    let values = match (letter, width) {
        ('f', 4) => file.into_vec::<f32>(),
        ('f', 8) => file.into_vec::<f64>().map(|values| values.into_iter().map(|value| value as f32).collect()),
        ('f', 2) => file.into_vec::<f16>().map(|values| values.into_iter().map(f16::to_f32).collect()),
        _ => return Err("it holds whole numbers, expected floats".into()),
    };
    Ok(Array { shape, values: values.map_err(|error| format!("it is truncated ({error})"))?, class: 0 })
}

/// The one whole number of a NumPy file.
fn label(bytes: &[u8]) -> Result<usize, String> {
    let (file, letter, width) = npy(bytes)?;
    if file.len() != 1 {
        return Err(format!("its label has {} numbers, expected one", file.len()));
    }
    let value = match (letter, width) {
        ('i', 8) => file.into_vec::<i64>().map(|values| values[0]),
        ('i', 4) => file.into_vec::<i32>().map(|values| values[0].into()),
        ('u', 8) => file.into_vec::<u64>().map(|values| i64::try_from(values[0]).unwrap_or(-1)),
        ('u', 4) => file.into_vec::<u32>().map(|values| values[0].into()),
        ('u', 1) => file.into_vec::<u8>().map(|values| values[0].into()),
        ('u', 2) => file.into_vec::<u16>().map(|values| values[0].into()),
        ('i', 2) => file.into_vec::<i16>().map(|values| values[0].into()),
        _ => return Err("its label is no whole number".into()),
    };
    let value = value.map_err(|error| format!("its label is truncated ({error})"))?;
    usize::try_from(value).map_err(|_| format!("its label is {value}, expected a class from 0"))
}

fn wrong(path: &Path, expected: &str, found: String) -> DataError {
    DataError::WrongContents { path: path.to_owned(), expected: expected.to_owned(), found, mend: MEND }
}

impl Source for Features {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn channels(&self) -> usize {
        self.shape[0]
    }

    fn can_mirror(&self) -> bool {
        false
    }

    fn name(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn write(&self, index: usize, size: usize, mirrored: bool, out: &mut [f32]) -> Result<usize, DataError> {
        let argument = |name, expected, found| Err(DataError::Argument { name, expected, found });
        if index >= self.files.len() {
            return argument("index", "below the number of files", format!("{index} of {}", self.files.len()));
        }
        if size != self.shape[1] || out.len() != self.shape.iter().product::<usize>() {
            let found = format!("{size}, {} numbers, for moments {:?}", out.len(), self.shape);
            return argument("size", "that of the latents", found);
        }
        if mirrored {
            return argument("mirrored", "false: mirror images are files of their own", "true".into());
        }
        let broken = |reason| DataError::BrokenRecord { path: self.path(index), reason };
        let array = self.read(index).map_err(broken)?;
        if array.shape != self.shape {
            return Err(broken(format!("its moments are {:?}, those of the first file {:?}", array.shape, self.shape)));
        }
        out.copy_from_slice(&array.values);
        let (_, log_variances) = out.split_at_mut(out.len() / 2);
        log_variances.iter_mut().for_each(|value| *value = value.clamp(LOG_VARIANCE.0, LOG_VARIANCE.1));
        Ok(array.class)
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

#[cfg(test)]
mod tests;
