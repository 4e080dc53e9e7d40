//! A checkpoint in parts: each process of a team that splits the optimiser's state writes its slice, all at once.
//!
//! ```text
//! checkpoints/000000012800.18f3a….0-of-4.shard   the flat elements of rank 0's slice, a file of `container`
//! checkpoints/000000012800.safetensors           written last: which parts belong together, and no tensors
//! ```
//!
//! The number between is another one for each save, so no save touches the parts of another, and what a process that was killed
//! leaves belongs to no checkpoint.

use std::fs;
use std::path::{Path, PathBuf};

use dim_torch::distributed::World;
use tch::{Device, Kind, Tensor, no_grad};

use crate::container::{self, Metadata};
use crate::error::TrainerError;
use crate::files;

/// What a part says of itself.
const KIND: &str = "dim-checkpoint-part";
/// The order of the parameters in the flat buffer that parts are slices of: 2 since the tables of a DiM's modulations stand together.
const LAYOUT: &str = "2";
/// The last part of their names.
const EXTENSION: &str = "shard";

/// Which parts a checkpoint has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Number of this save.
    token: String,
    count: usize,
    /// Elements of each part; the last ones lie behind the end of the parameters.
    elements: i64,
}

impl Parts {
    /// Writes this process's part of the checkpoint that is to stand at `checkpoint`; returns when all have written theirs.
    ///
    /// # Errors
    /// [`TrainerError::Write`]; [`TrainerError::Team`] where another process failed. This process's part is then removed.
    pub(super) fn write(checkpoint: &Path, world: &World, tensors: &[(String, Tensor)]) -> Result<Self, TrainerError> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let token = world.gather(&[now.as_nanos() as i64])?[0][0];
        let elements = tensors.first().map_or(0, |(_, tensor)| tensor.numel() as i64);
        let parts = Self { token: format!("{token:x}"), count: world.size(), elements };
        let path = parts.path(checkpoint, world.rank());
        let metadata = parts.metadata(world.rank());
        let written = files::write_atomically(&path, |temporary| container::write(temporary, metadata, tensors));
        let failed = others_failed(world, written.is_ok())?;
        if written.is_ok() && failed.is_none() {
            return Ok(parts);
        }
        let _ = fs::remove_file(&path); // the first error is the one to tell
        written?;
        Err(TrainerError::Team(format!(
            "{} could not write its part of {}",
            failed.unwrap_or_default(),
            checkpoint.display()
        )))
    }

    /// What the checkpoint's metadata say of its parts; `None` for a checkpoint in one file.
    pub(super) fn of(metadata: &Metadata) -> Result<Option<Self>, String> {
        let Some(token) = metadata.get("parts_token") else { return Ok(None) };
        let layout = metadata.get("parts_layout").map_or("1", String::as_str);
        if layout != LAYOUT {
            return Err(format!("its parts are of layout {layout}, expected {LAYOUT}"));
        }
        let number = |key: &str| {
            let value = metadata.get(key).and_then(|value| value.parse::<i64>().ok()).filter(|&value| value > 0);
            value.ok_or_else(|| format!("its `{key}` is no positive number"))
        };
        let count = number("parts")? as usize;
        Ok(Some(Self { token: token.clone(), count, elements: number("part_elements")? }))
    }

    /// Adds what [`Parts::of`] reads.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        metadata.insert("parts_token".to_owned(), self.token.clone());
        metadata.insert("parts_layout".to_owned(), LAYOUT.to_owned());
        metadata.insert("parts".to_owned(), self.count.to_string());
        metadata.insert("part_elements".to_owned(), self.elements.to_string());
    }

    /// Reads elements into flat tensors, of which each begins at element `start` of the whole; further groups are skipped. Only parts
    /// that hold any of them are read, and those wholly, for their checksum.
    ///
    /// # Errors
    /// Those of [`container::read`]; [`TrainerError::NotACheckpoint`] for a part that is missing or lacks a group.
    pub(super) fn read(&self, checkpoint: &Path, start: i64, wanted: &[(String, Tensor)]) -> Result<(), TrainerError> {
        let end = start + wanted.iter().map(|(_, tensor)| tensor.numel() as i64).max().unwrap_or(0);
        for part in 0..self.count {
            let first = part as i64 * self.elements;
            let overlap = first.max(start)..(first + self.elements).min(end);
            if overlap.is_empty() {
                continue;
            }
            let mut read = Vec::new();
            self.open(checkpoint, part, |name| {
                let Some((_, target)) = wanted.iter().find(|(group, _)| group == name) else { return Ok(None) };
                let values = Tensor::f_empty([self.elements], (Kind::Float, Device::Cpu))?;
                read.push((target.shallow_clone(), values.shallow_clone()));
                Ok(Some(values))
            })?;
            if read.len() != wanted.len() {
                let reason = format!("its part {part} holds {} of {} groups of tensors", read.len(), wanted.len());
                return Err(TrainerError::NotACheckpoint { path: checkpoint.to_owned(), reason, older: None });
            }
            for (target, values) in read {
                let length = overlap.end - overlap.start;
                let values = values.f_narrow(0, overlap.start - first, length)?;
                no_grad(|| target.f_narrow(0, overlap.start - start, length)?.f_copy_(&values))?;
            }
        }
        Ok(())
    }

    /// Reads all parts for their checksums alone.
    ///
    /// # Errors
    /// As [`Parts::read`].
    pub(super) fn check(&self, checkpoint: &Path) -> Result<(), TrainerError> {
        (0..self.count).try_for_each(|part| self.open(checkpoint, part, |_| Ok(None)))
    }

    fn open(
        &self,
        checkpoint: &Path,
        part: usize,
        mut destination: impl FnMut(&str) -> Result<Option<Tensor>, TrainerError>,
    ) -> Result<(), TrainerError> {
        let path = self.path(checkpoint, part);
        let broken = |reason: String| TrainerError::NotACheckpoint { path: checkpoint.to_owned(), reason, older: None };
        if !path.exists() {
            return Err(broken(format!("its part {} is missing", path.display())));
        }
        let expected = self.metadata(part);
        let check = |metadata: &Metadata| {
            let same = *metadata == expected;
            same.then_some(()).ok_or_else(|| broken(format!("{} is no part of it", path.display())))
        };
        container::read(&path, check, |name, shape| {
            if shape != [self.elements] {
                return Err(broken(format!(
                    "`{name}` in {} has shape {shape:?}, expected [{}]",
                    path.display(),
                    self.elements
                )));
            }
            destination(name)
        })?;
        Ok(())
    }

    fn metadata(&self, part: usize) -> Metadata {
        let mut metadata =
            Metadata::from([("kind".to_owned(), KIND.to_owned()), ("part".to_owned(), part.to_string())]);
        self.describe(&mut metadata);
        metadata
    }

    fn path(&self, checkpoint: &Path, part: usize) -> PathBuf {
        let name = format!("{}.{}-of-{}.{EXTENSION}", self.token, part, self.count);
        checkpoint.with_extension(name)
    }
}

/// Whether some process could not do what all had to: a word for it.
///
/// # Errors
/// [`TrainerError::Torch`] if one is lost.
pub(super) fn others_failed(world: &World, ok: bool) -> Result<Option<String>, TrainerError> {
    let answers = world.gather(&[ok.into()])?;
    let failed: Vec<String> =
        (0..).zip(&answers).filter(|(_, ok)| **ok == [0]).map(|(rank, _)| format!("rank {rank}")).collect();
    Ok((!failed.is_empty()).then(|| failed.join(" and ")))
}

/// Whether this is the name of a part.
pub(crate) fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

/// Removes the parts in a folder that belong to none of its checkpoints, whole or set aside.
///
/// # Errors
/// [`TrainerError::Read`], [`TrainerError::Write`].
pub(crate) fn remove_orphans(folder: &Path) -> Result<(), TrainerError> {
    let all = files::list(folder)?;
    let images =
        |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().split('.').next().map(str::to_owned);
    for part in all.iter().filter(|path| is_part(path)) {
        let owners = all.iter().filter(|other| !is_part(other) && images(other) == images(part));
        let token = part.file_name().unwrap_or_default().to_string_lossy().split('.').nth(1).map(str::to_owned);
        let owned = owners.into_iter().any(|owner| match container::metadata(owner) {
            Ok(metadata) => metadata.get("parts_token") == token.as_ref(),
            Err(_) => true, // it does not say what belongs to it
        });
        if !owned {
            fs::remove_file(part).map_err(|source| TrainerError::write(part, source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn numbers(first: i64, count: i64) -> Tensor {
        Tensor::arange_start(first, first + count, (Kind::Float, Device::Cpu))
    }

    /// A checkpoint of ten elements in parts of four.
    fn saved(folder: &Path) -> (PathBuf, Parts) {
        let checkpoint = folder.join("000000000008.safetensors");
        let parts = Parts { token: "ab".into(), count: 3, elements: 4 };
        for part in 0..3 {
            let values = numbers(4 * part as i64, 4);
            let tensors = [("ema".to_owned(), &values * 10.0), ("parameters".to_owned(), values)];
            container::write(&parts.path(&checkpoint, part), parts.metadata(part), &tensors).unwrap();
        }
        let mut metadata = Metadata::new();
        parts.describe(&mut metadata);
        container::write(&checkpoint, metadata, &[]).unwrap();
        (checkpoint, parts)
    }

    #[test]
    fn any_slice_is_read_from_the_parts_that_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, parts) = saved(folder.path());
        assert_eq!(Parts::of(&container::metadata(&checkpoint).unwrap()).unwrap().as_ref(), Some(&parts));
        for (start, length) in [(0, 10), (0, 12), (3, 1), (5, 6), (8, 4), (8, 8)] {
            let target = Tensor::full([length], -1.0, (Kind::Float, Device::Cpu));
            parts.read(&checkpoint, start, &[("parameters".to_owned(), target.shallow_clone())]).unwrap();
            let held = length.min(12 - start);
            assert!(target.narrow(0, 0, held).equal(&numbers(start, held)), "{start} {length}");
        }
        parts.check(&checkpoint).unwrap();
    }

    #[test]
    fn missing_foreign_and_damaged_parts_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, parts) = saved(folder.path());
        let second = parts.path(&checkpoint, 1);
        let good = fs::read(&second).unwrap();
        let error = |parts: &Parts| {
            let error = parts.check(&checkpoint).unwrap_err();
            assert!(error.is_bad_checkpoint(), "{error}");
            error.to_string()
        };
        fs::copy(parts.path(&checkpoint, 2), &second).unwrap();
        assert!(error(&parts).contains("1-of-3.shard is no part of it"), "{}", error(&parts));
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&second, bytes).unwrap();
        assert!(error(&parts).contains("is corrupt"), "{}", error(&parts));
        fs::remove_file(&second).unwrap();
        assert!(error(&parts).contains("1-of-3.shard is missing"), "{}", error(&parts));
        fs::write(&second, good).unwrap();
        let wanted = [("second_moment".to_owned(), numbers(0, 12))];
        let error = parts.read(&checkpoint, 0, &wanted).unwrap_err().to_string();
        assert!(error.contains("its part 0 holds 0 of 1 groups"), "{error}");
    }

    #[test]
    fn parts_of_no_checkpoint_are_removed_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, parts) = saved(folder.path());
        let stale = Parts { token: "cd".into(), ..parts.clone() };
        let orphans = [stale.path(&checkpoint, 0), parts.path(&folder.path().join("000000000016.safetensors"), 1)];
        orphans.iter().for_each(|path| fs::write(path, b"half").unwrap());
        remove_orphans(folder.path()).unwrap();
        assert!(orphans.iter().all(|path| !path.exists()));
        parts.check(&checkpoint).unwrap();

        fs::rename(&checkpoint, folder.path().join("000000000008.safetensors.bad")).unwrap();
        remove_orphans(folder.path()).unwrap();
        assert!((0..3).all(|part| parts.path(&checkpoint, part).exists()), "a checkpoint set aside keeps its parts");
    }
}
