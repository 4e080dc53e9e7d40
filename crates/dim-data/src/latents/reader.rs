//! Latents as a source of training examples: moments, read from their shards when they are asked for.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::encoding::{Encoding, Index, io, wrong};
use super::folder::{ENCODING, INDEX, entry};
use super::shard::Head;
use super::{MEND, check};
use crate::read_at::Files;
use crate::{DataError, Source};

/// Where latents are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentsConfig {
    /// The folder that they were encoded into.
    pub path: PathBuf,
}

/// The moments of a finished encoding. Labels and checksums are held in memory, 12 bytes an image; moments stay on disk, and are
/// checked whenever they are read.
#[derive(Debug)]
pub struct Latents {
    index: Index,
    fingerprint: u32,
    heads: Vec<Head>,
    /// Images in all shards before each.
    before: Vec<usize>,
    files: Files<PathBuf>,
    notes: Vec<String>,
}

impl Latents {
    /// Opens an encoding and checks all of it but the moments.
    ///
    /// # Errors
    ///
    /// [`DataError::MissingFolder`], [`DataError::WrongContents`] for one that is not finished, or damaged.
    pub fn open(config: &LatentsConfig) -> Result<Self, DataError> {
        let path = &config.path;
        let index = read_index(path)?;
        let fingerprint =
            index.shards.iter().fold(0, |sum, shard| crc32c::crc32c_append(sum, &shard.crc32c.to_le_bytes()));
        let files: Vec<PathBuf> = index.shards.iter().map(|shard| path.join(&shard.file)).collect();
        let heads: Vec<Head> = files
            .par_iter()
            .enumerate()
            .map(|(shard, file)| {
                let head = Head::read(file, &index.encoding, shard)?;
                check::same_entry(file, &entry(shard, &head), &index.shards[shard]).map(|()| head)
            })
            .collect::<Result<_, _>>()?;
        let mut images = 0;
        let mut before = Vec::with_capacity(heads.len());
        for head in &heads {
            before.push(images);
            images += head.labels.len();
        }
        let files = Files::new(files).map_err(|error| io(path, "opening the shards", error))?;
        let mut notes = Vec::new();
        if index.skipped > 0 {
            notes.push(format!("{} image(s) could not be read when the latents were made", index.skipped));
        }
        Ok(Self { index, fingerprint, heads, before, files, notes })
    }

    /// What is encoded, how, and how its channels vary.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn encoding(&self) -> &Encoding {
        &self.index.encoding
    }

    /// The shard of an image and its row there.
    fn place(&self, index: usize) -> (usize, usize) {
        // Shards without an image begin where the next one does; the last of those that begin there has it.
        let shard = self.before.partition_point(|&before| before <= index) - 1;
        (shard, index - self.before[shard])
    }
}

/// The index of a folder, or why there is none.
pub(super) fn read_index(path: &Path) -> Result<Index, DataError> {
    if !path.is_dir() {
        let expected = "latents, as `dim-trainer encode` makes them";
        return Err(DataError::MissingFolder { path: path.to_owned(), expected, mend: MEND });
    }
    if !path.join(INDEX).exists() {
        let found = if path.join(ENCODING).exists() { "an encoding that is not finished" } else { "no index.json" };
        return Err(wrong(path, "a finished encoding", found.into()));
    }
    Index::read(&path.join(INDEX))
}

impl Source for Latents {
    fn len(&self) -> usize {
        self.index.images
    }

    fn classes(&self) -> &[String] {
        &self.encoding().classes
    }

    fn channels(&self) -> usize {
        2 * self.encoding().latent_channels
    }

    fn can_mirror(&self) -> bool {
        self.encoding().mirrored
    }

    /// A checksum over those of all images.
    fn fingerprint(&self) -> Option<u32> {
        Some(self.fingerprint)
    }

    fn name(&self, index: usize) -> String {
        let (shard, row) = self.place(index);
        format!("{}, row {row}", self.files.path(shard).display())
    }

    fn write(&self, index: usize, size: usize, mirrored: bool, out: &mut [f32]) -> Result<usize, DataError> {
        let encoding = self.encoding();
        let argument = |name, expected, found| Err(DataError::Argument { name, expected, found });
        if index >= self.index.images {
            return argument("index", "below the number of images", format!("{index} of {}", self.index.images));
        }
        if size != encoding.latent_size || out.len() != encoding.record_len() {
            let found = format!("{size}, {} numbers, for latents of {}", out.len(), encoding.latent_size);
            return argument("size", "that of the latents", found);
        }
        if mirrored && !encoding.mirrored {
            return argument("mirrored", "false: mirror images were not encoded", "true".into());
        }
        let (shard, row) = self.place(index);
        let head = &self.heads[shard];
        let expected = head.checksum(encoding, row, mirrored);
        encoding
            .element
            .decode(out, |bytes| {
                self.files
                    .read_exact_at(shard, bytes, head.offset(encoding, row, mirrored))
                    .map_err(|error| error.to_string())?;
                match crc32c::crc32c(bytes) {
                    found if found == expected => Ok(()),
                    found => Err(format!("its checksum is {expected:08x}, its bytes have {found:08x}")),
                }
            })
            .map_err(|reason| DataError::BrokenRecord { path: self.name(index).into(), reason })?;
        Ok(head.labels[row] as usize)
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}
