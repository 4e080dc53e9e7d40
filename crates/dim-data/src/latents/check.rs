//! Reading an encoding from end to end, to see whether every byte is as it was written.

use std::path::Path;

use super::encoding::{Encoding, ShardEntry, Sums, wrong};
use super::folder::{ENCODING, INDEX, LatentFolder, entry};
use super::reader::read_index;
use super::shard::Head;
use crate::DataError;
use crate::read_at::Files;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Shards read.
    pub shards: usize,
    /// Images in them.
    pub images: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Images that could not be encoded.
    pub skipped: usize,
    /// Shards that are not there yet, of an encoding that is not finished.
    pub missing: usize,
    /// Whether the index is there.
    pub finished: bool,
    /// Everything that is wrong, one sentence each.
    pub problems: Vec<String>,
}

/// Reads every shard of an encoding, finished or not, and compares all checksums, labels and sums. `observe` is called after each
/// with the number of shards read and of all.
///
/// # Errors
///
/// If the folder is not there or is no encoding at all; what is wrong inside goes into the report.
pub fn check(path: &Path, mut observe: impl FnMut(usize, usize)) -> Result<CheckReport, DataError> {
    if !path.join(ENCODING).exists() {
        read_index(path)?;
    }
    let folder = LatentFolder::existing(path)?;
    let encoding = folder.encoding();
    let mut report = CheckReport { finished: path.join(INDEX).exists(), ..CheckReport::default() };
    let index = if report.finished {
        let index = read_index(path).inspect_err(|error| report.problems.push(error.to_string())).ok();
        index.filter(|index| {
            let differences = encoding.differences(&index.encoding);
            let problem = |difference: &String| format!("{INDEX} and {ENCODING} differ: {difference}");
            report.problems.extend(differences.iter().map(problem));
            differences.is_empty()
        })
    } else {
        None
    };
    let mut sums = Sums::zero(encoding.latent_channels);
    for shard in 0..encoding.shards() {
        let file = folder.file(shard);
        match folder.head(shard) {
            Err(_) if !file.exists() => {
                report.missing += 1;
                if report.finished {
                    report.problems.push(format!("{}: no such file, but there is an index", file.display()));
                }
            }
            Err(error) => report.problems.push(error.to_string()),
            Ok(head) => {
                report.shards += 1;
                report.images += head.labels.len();
                report.bytes += head.bytes;
                report.skipped += head.note.skipped.len();
                sums.merge(&head.note.sums);
                if let Some(index) = &index {
                    let same = same_entry(&file, &entry(shard, &head), &index.shards[shard]);
                    report.problems.extend(same.err().map(|error| error.to_string()));
                }
                report.problems.extend(records(&file, encoding, &head).err());
            }
        }
        observe(shard + 1, encoding.shards());
    }
    if let Some(index) = index.filter(|_| report.problems.is_empty())
        && super::Index::new(encoding, index.shards.clone(), report.skipped, &sums).as_ref() != Some(&index)
    {
        report
            .problems
            .push(format!("{}: its counts or statistics are not those of the shards", path.join(INDEX).display()));
    }
    Ok(report)
}

/// Compares every record of a shard with its checksum, and their sums with the note's.
fn records(path: &Path, encoding: &Encoding, head: &Head) -> Result<(), String> {
    let files = Files::new([path]).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut values = vec![0.0_f32; encoding.record_len()];
    let mut sums = Sums::zero(encoding.latent_channels);
    for row in 0..head.labels.len() {
        for mirrored in [false, true].into_iter().take(encoding.records_per_image()) {
            let what = if mirrored { "the mirror image of row" } else { "row" };
            let place = || format!("{}: {what} {row}", path.display());
            let expected = head.checksum(encoding, row, mirrored);
            encoding.element.decode(&mut values, |bytes| {
                files
                    .read_exact_at(0, bytes, head.offset(encoding, row, mirrored))
                    .map_err(|error| format!("{} cannot be read: {error}", place()))?;
                match crc32c::crc32c(bytes) {
                    found if found == expected => Ok(()),
                    found => Err(format!("{} has checksum {found:08x}, expected {expected:08x}", place())),
                }
            })?;
            sums.add(&values);
        }
    }
    if sums.is_close_to(&head.note.sums) {
        Ok(())
    } else {
        Err(format!("{}: the sums in its note are not those of its moments", path.display()))
    }
}

/// A shard must be as the index has it.
pub(super) fn same_entry(path: &Path, found: &ShardEntry, expected: &ShardEntry) -> Result<(), DataError> {
    if found == expected {
        return Ok(());
    }
    let show =
        |entry: &ShardEntry| format!("{} images, {} bytes, checksum {:08x}", entry.images, entry.bytes, entry.crc32c);
    Err(wrong(path, &format!("the shard of the index ({})", show(expected)), show(found)))
}
