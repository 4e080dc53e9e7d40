//! A folder that is being filled with shards, in one sitting or several.

use std::fs;
use std::path::{Path, PathBuf};

use super::encoding::{Encoding, Index, ShardEntry, Sums, io, wrong};
use super::shard::{Head, Shard};
use crate::{DataError, atomic_file};

pub(super) const ENCODING: &str = "encoding.json";
pub(super) const INDEX: &str = "index.json";

/// A folder that is being filled.
#[derive(Debug)]
pub struct LatentFolder {
    path: PathBuf,
    encoding: Encoding,
    /// CRC-32C of `encoding.json`.
    crc32c: u32,
    /// Whether each shard is there.
    done: Vec<bool>,
}

impl LatentFolder {
    /// Begins an encoding in an empty folder, which need not exist, or goes on with the same one.
    ///
    /// # Errors
    ///
    /// [`DataError::WrongContents`] for a folder that holds another encoding or other files, or a shard that is damaged;
    /// [`DataError::Io`].
    pub fn open(path: &Path, encoding: Encoding) -> Result<Self, DataError> {
        fs::create_dir_all(path).map_err(|error| io(path, "making the folder", error))?;
        let names = names(path)?;
        let of_encoding = path.join(ENCODING);
        if of_encoding.exists() {
            let there = Encoding::read(&of_encoding)?;
            let differences = encoding.differences(&there);
            if !differences.is_empty() {
                let expected = "the same encoding, to go on with it";
                let found = format!("another one:\n  - {}\n", differences.join("\n  - "));
                let mend = "encode into another folder, or with the old settings";
                return Err(DataError::WrongContents { path: path.to_owned(), expected: expected.into(), found, mend });
            }
        } else {
            if let Some(other) = names.iter().find(|name| !is_leftover(name)) {
                let mend = "choose an empty folder, or a new one";
                let expected = "an empty folder to encode into".to_owned();
                return Err(DataError::WrongContents { path: path.to_owned(), expected, found: other.clone(), mend });
            }
            encoding.write(&of_encoding)?;
        }
        for name in names.iter().filter(|name| is_leftover(name)) {
            let leftover = path.join(name);
            fs::remove_file(&leftover).map_err(|error| io(&leftover, "removing what a killed process left", error))?;
        }
        let mut folder = Self::existing(path)?;
        folder.done = (0..folder.encoding.shards()).map(|shard| folder.file(shard).exists()).collect();
        for shard in (0..folder.done.len()).filter(|&shard| folder.done[shard]) {
            folder.head(shard)?;
        }
        Ok(folder)
    }

    /// A folder that was begun, to look at.
    pub(super) fn existing(path: &Path) -> Result<Self, DataError> {
        let of_encoding = path.join(ENCODING);
        let bytes = fs::read(&of_encoding).map_err(|error| io(&of_encoding, "reading it", error))?;
        let encoding = Encoding::read(&of_encoding)?;
        Ok(Self { path: path.to_owned(), encoding, crc32c: crc32c::crc32c(&bytes), done: Vec::new() })
    }

    /// What is encoded, and how; of an encoding that was begun before, as it was written down then.
    #[must_use]
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// Whether all is there, the index among it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.missing().next().is_none() && self.path.join(INDEX).exists()
    }

    /// The shards that are not there yet.
    pub fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.done.len()).filter(|&shard| !self.done[shard])
    }

    /// An empty shard, to be filled and [saved](Self::save).
    #[must_use]
    pub fn begin(&self, shard: usize) -> Shard {
        Shard::new(&self.encoding, self.crc32c, shard)
    }

    /// Writes a shard; whatever happens, its file is whole or absent.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if images are missing; [`DataError::Io`], a full disk mostly.
    pub fn save(&mut self, shard: &Shard) -> Result<(), DataError> {
        let argument = |found| DataError::Argument { name: "shard", expected: "one with all its images", found };
        let path = self.file(shard.number());
        atomic_file::write(&path, &shard.to_bytes().map_err(argument)?)
            .map_err(|error| io(&path, "writing it", error))?;
        self.done[shard.number()] = true;
        Ok(())
    }

    /// Images skipped in the shards that are there.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn skipped(&self) -> Result<usize, DataError> {
        let there = (0..self.done.len()).filter(|&shard| self.done[shard]);
        there.map(|shard| Ok(self.head(shard)?.note.skipped.len())).sum()
    }

    /// Writes the index, of shards as they are on disk.
    ///
    /// # Errors
    ///
    /// [`DataError::WrongContents`] if a shard is missing or damaged, or there is no image in any of them; [`DataError::Io`].
    pub fn finish(&self) -> Result<Index, DataError> {
        let mut sums = Sums::zero(self.encoding.latent_channels);
        let (mut shards, mut skipped) = (Vec::with_capacity(self.done.len()), 0);
        for shard in 0..self.encoding.shards() {
            let head = self.head(shard)?;
            sums.merge(&head.note.sums);
            skipped += head.note.skipped.len();
            shards.push(entry(shard, &head));
        }
        let index = Index::new(&self.encoding, shards, skipped, &sums)
            .ok_or_else(|| wrong(&self.path, "an image at least that can be read", format!("{skipped} broken ones")))?;
        index.write(&self.path.join(INDEX)).map(|()| index)
    }

    pub(super) fn file(&self, shard: usize) -> PathBuf {
        self.path.join(Encoding::file_name(shard))
    }

    /// The head of a shard, which must be one of this encoding.
    pub(super) fn head(&self, shard: usize) -> Result<Head, DataError> {
        let path = self.file(shard);
        let head = Head::read(&path, &self.encoding, shard)?;
        if head.note.encoding != self.crc32c {
            let expected = format!("a shard of the encoding {:08x}, which {ENCODING} describes", self.crc32c);
            return Err(wrong(&path, &expected, format!("one of {:08x}", head.note.encoding)));
        }
        Ok(head)
    }
}

/// The entry of a shard in the index.
pub(super) fn entry(shard: usize, head: &Head) -> ShardEntry {
    ShardEntry { file: Encoding::file_name(shard), images: head.labels.len(), bytes: head.bytes, crc32c: head.crc32c }
}

fn names(path: &Path) -> Result<Vec<String>, DataError> {
    let failed = |error| io(path, "listing the folder", error);
    let entries = fs::read_dir(path).map_err(failed)?;
    let mut names: Vec<String> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    names.sort();
    Ok(names)
}

/// Whether a process that was killed left this behind while it wrote.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}
