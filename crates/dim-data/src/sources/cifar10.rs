//! CIFAR-10 (Krizhevsky, 2009), "binary version": 60,000 colour images, 32 x 32, 10 classes.
//!
//! Six files of 10,000 records; a record is one byte of class and 3072 of pixels, `[channel, row, column]`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check_folder;
use crate::source::check_request;
use crate::transform::centre_crop;
use crate::{DataError, Image, ImageSource, Sample, Split};

const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const EXPECTED: &str = "the binary version of CIFAR-10 (data_batch_1.bin to data_batch_5.bin, test_batch.bin)";
const MEND: &str = "unpack cifar-10-binary.tar.gz there (the binary version; the one for Python has no .bin files)";

/// The folder inside the published archive.
const ARCHIVE_FOLDER: &str = "cifar-10-batches-bin";
const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST_FILES: [&str; 1] = ["test_batch.bin"];

const SIDE: usize = 32;
const PLANE_BYTES: usize = SIDE * SIDE;
const RECORD_BYTES: usize = 1 + 3 * PLANE_BYTES;
const RECORDS_PER_FILE: usize = 10_000;

/// Where CIFAR-10 is and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar10Config {
    /// Folder that holds the `.bin` files, or the folder `cifar-10-batches-bin` with them.
    pub path: PathBuf,
    /// Training or test images.
    #[serde(default)]
    pub split: Split,
}

/// CIFAR-10, held in memory.
#[derive(Debug)]
pub struct Cifar10 {
    files: Vec<(PathBuf, Vec<u8>)>,
    classes: Vec<String>,
}

impl Cifar10 {
    /// Reads one split.
    ///
    /// # Errors
    ///
    /// Missing folder or file, truncation, a class above 9: see [`DataError`].
    pub fn open(config: &Cifar10Config) -> Result<Self, DataError> {
        check_folder(&config.path, EXPECTED, MEND)?;
        let unpacked = config.path.join(ARCHIVE_FOLDER);
        let folder = if unpacked.is_dir() { &unpacked } else { &config.path };
        let names: &[&str] = match config.split {
            Split::Train => &TRAIN_FILES,
            Split::Test => &TEST_FILES,
        };
        let files = names
            .iter()
            .map(|name| {
                let path = folder.join(name);
                read_records(&path, RECORDS_PER_FILE).map(|records| (path, records))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { files, classes: CLASSES.map(String::from).into() })
    }

    fn record(&self, index: usize) -> &[u8] {
        &self.files[index / RECORDS_PER_FILE].1[index % RECORDS_PER_FILE * RECORD_BYTES..][..RECORD_BYTES]
    }
}

/// Reads a file of exactly `count` records and checks their classes.
fn read_records(path: &Path, count: usize) -> Result<Vec<u8>, DataError> {
    if !path.is_file() {
        return Err(DataError::MissingFile {
            path: path.to_owned(),
            expected: "10,000 records of 3073 bytes, as in the binary version of CIFAR-10",
            mend: MEND,
        });
    }
    let records =
        fs::read(path).map_err(|error| DataError::Io { path: path.to_owned(), doing: "reading", error, mend: MEND })?;
    if records.len() != count * RECORD_BYTES {
        return Err(DataError::WrongLength {
            path: path.to_owned(),
            expected: (count * RECORD_BYTES) as u64,
            found: records.len() as u64,
            mend: MEND,
        });
    }
    let mut classes = records.iter().step_by(RECORD_BYTES).map(|&class| usize::from(class));
    match classes.clone().position(|class| class >= CLASSES.len()) {
        Some(index) => Err(DataError::ClassOutOfRange {
            path: path.to_owned(),
            index,
            class: classes.nth(index).unwrap_or_default(),
            classes: CLASSES.len(),
            mend: MEND,
        }),
        None => Ok(records),
    }
}

impl ImageSource for Cifar10 {
    fn len(&self) -> usize {
        self.files.len() * RECORDS_PER_FILE
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        let file = self.files.get(index / RECORDS_PER_FILE).map(|(path, _)| path.display().to_string());
        format!("{}[{}]", file.unwrap_or_default(), index % RECORDS_PER_FILE)
    }

    fn load(&self, index: usize, size: usize) -> Result<Sample, DataError> {
        check_request(index, self.len(), size)?;
        let (class, planes) = (self.record(index)[0], &self.record(index)[1..]);
        let pixels =
            (0..PLANE_BYTES).flat_map(|at| [0, 1, 2].map(|channel| planes[channel * PLANE_BYTES + at])).collect();
        let image = centre_crop(&Image::new(SIDE, SIDE, 3, pixels)?, size)?;
        Ok(Sample { image, class: class.into() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use std::fs::File;

    /// A test batch of the published length; all black and of class 0 but for the records given.
    fn folder(records: &[(usize, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(ARCHIVE_FOLDER)).unwrap();
        let mut bytes = vec![0; RECORDS_PER_FILE * RECORD_BYTES];
        for (index, record) in records {
            bytes[index * RECORD_BYTES..][..record.len()].copy_from_slice(record);
        }
        fs::write(folder.path().join(ARCHIVE_FOLDER).join(TEST_FILES[0]), bytes).unwrap();
        folder
    }

    fn open(path: &Path, split: Split) -> Result<Cifar10, DataError> {
        Cifar10::open(&Cifar10Config { path: path.to_owned(), split })
    }

    #[test]
    fn planes_become_pixels() {
        let mut record = vec![3];
        record.extend((0..3).flat_map(|channel: u8| (0..PLANE_BYTES).map(move |at| (at % 64) as u8 + channel * 64)));
        let folder = folder(&[(9_999, record)]);
        let source = open(folder.path(), Split::Test).unwrap();
        assert_eq!((source.len(), source.channels()), (10_000, 3));
        let sample = source.load(9_999, 32).unwrap();
        assert_eq!((sample.class, source.classes()[3].as_str()), (3, "cat"));
        let expected: Vec<u8> =
            (0..PLANE_BYTES as u32).flat_map(|at| [0, 64, 128].map(|c| (at % 64) as u8 + c)).collect();
        assert_eq!(sample.image.pixels(), expected);
        assert_eq!(source.load(0, 16).unwrap().image.width(), 16);
        assert!(source.name(9_999).ends_with("test_batch.bin[9999]"));
    }

    #[test]
    fn the_training_split_joins_five_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in TRAIN_FILES {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len((RECORDS_PER_FILE * RECORD_BYTES) as u64).unwrap();
        }
        let source = open(folder.path(), Split::Train).unwrap();
        assert_eq!(source.len(), 50_000);
        assert!(source.name(10_000).ends_with("data_batch_2.bin[0]"));
        assert!(source.load(49_999, 32).is_ok() && source.load(50_000, 32).is_err());
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let message = |path: &Path, split| open(path, split).unwrap_err().to_string();
        assert!(
            message(Path::new("/nowhere"), Split::Test).starts_with("/nowhere: no such folder; expected the binary")
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(message(empty.path(), Split::Test).contains("found an empty folder"));
        let good = folder(&[]);
        assert!(message(good.path(), Split::Train).contains("data_batch_1.bin: no such file"));
        let bad = folder(&[(17, vec![10])]);
        assert!(message(bad.path(), Split::Test).contains("test_batch.bin: item 17 has class 10"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_other_length_is_an_error(records in 0_usize..3, extra in 0..RECORD_BYTES) {
            let length = records * RECORD_BYTES + extra;
            prop_assume!(length != 2 * RECORD_BYTES);
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(length as u64).unwrap();
            let error = read_records(file.path(), 2).unwrap_err();
            let DataError::WrongLength { expected, found, .. } = error else { panic!("{error}") };
            prop_assert_eq!((expected, found), (2 * RECORD_BYTES as u64, length as u64));
        }
    }
}
