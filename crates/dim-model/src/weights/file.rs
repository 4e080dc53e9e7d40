//! An open file of weights of any format: what it holds, and its tensors one at a time.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use tch::{Kind, Tensor};

use super::{
    FileFormat, WeightsError, bytes::TransferError, format, format::Format, pytorch::PyTorch, safetensors::Safetensors,
};

/// Name, shape and element type of a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, as the file writes it.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<i64>,
    /// Element type.
    pub kind: Kind,
}

/// An open file of weights: its header has been read and checked, its tensors are read when asked for.
///
/// A network of 862 M parameters is thus checked in milliseconds and loaded without a second copy in memory.
#[derive(Debug)]
pub struct WeightFile {
    context: FileContext,
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Safetensors(Safetensors),
    PyTorch(Box<PyTorch>),
}

impl WeightFile {
    /// Opens a file of any known format, told by its content.
    ///
    /// In a PyTorch file the dictionary of tensors may be the whole file or a part of it: the only dictionary with
    /// tensors in it, or else the only one called `state_dict`, `model` or `ema`. What else the file holds, such as
    /// a step count, is passed over.
    ///
    /// # Errors
    /// A file that cannot be read, is of no known format, is truncated or corrupt, asks for more than tensors
    /// ([`WeightsError::ForbiddenGlobal`]), or leaves open which dictionary is meant ([`WeightsError::Dictionary`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        Self::open_part(path.as_ref(), None)
    }

    /// Opens the dictionary of tensors with this key in a PyTorch file that holds several.
    ///
    /// # Errors
    /// As [`WeightFile::open`], and when there is no such dictionary (as in every safetensors file).
    pub fn open_dictionary(path: impl AsRef<Path>, key: &str) -> Result<Self, WeightsError> {
        Self::open_part(path.as_ref(), Some(key))
    }

    fn open_part(path: &Path, key: Option<&str>) -> Result<Self, WeightsError> {
        let failed = |source| WeightsError::Io { action: "open", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let context = FileContext { path: path.to_owned(), length };
        let mut start = Vec::new();
        file.by_ref().take(format::START_BYTES).read_to_end(&mut start).map_err(context.io("read"))?;
        file.rewind().map_err(context.io("read"))?;
        let (reader, (entries, metadata)) = match format::detect(&start, length) {
            Ok(Format::Safetensors) => {
                let (reader, contents) = Safetensors::open(file, &context)?;
                if let Some(key) = key {
                    let dictionaries = vec![(String::new(), contents.0.len())];
                    return Err(WeightsError::Dictionary {
                        path: context.path,
                        key: Some(key.to_owned()),
                        dictionaries,
                    });
                }
                (Reader::Safetensors(reader), contents)
            }
            Ok(Format::PyTorch) => {
                let (reader, entries) = PyTorch::open(file, key, &context)?;
                (Reader::PyTorch(Box::new(reader)), (entries, BTreeMap::new()))
            }
            Ok(Format::LegacyPyTorch) => {
                let (reader, entries) = PyTorch::open_legacy(file, key, &context)?;
                (Reader::PyTorch(Box::new(reader)), (entries, BTreeMap::new()))
            }
            Ok(Format::OldPyTorch(got)) => return Err(WeightsError::UnreadPyTorchFormat { path: context.path, got }),
            Err(got) => return Err(WeightsError::UnknownFormat { path: context.path, got }),
        };
        Ok(Self { context, entries, metadata, reader })
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.context.path
    }

    /// The file's format.
    #[must_use]
    pub fn format(&self) -> FileFormat {
        match self.reader {
            Reader::Safetensors(_) => FileFormat::Safetensors,
            Reader::PyTorch(_) => FileFormat::PyTorch,
        }
    }

    /// The tensors, in the file's order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The metadata of a safetensors file; empty for other formats.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads tensor number `index` of [`WeightFile::entries`] to the CPU.
    ///
    /// A tensor of a PyTorch file has the strides with which it was saved; tensors that shared memory when they were
    /// saved share it again.
    ///
    /// # Errors
    /// A number past the end, a file that cannot be read or has been changed, a wrong checksum, or no memory.
    pub fn read(&mut self, index: usize) -> Result<Tensor, WeightsError> {
        let Some(entry) = self.entries.get(index) else {
            let expected = format!("less than {}", self.entries.len());
            return Err(self.context.corrupt("number of the tensor", expected, index));
        };
        match &mut self.reader {
            Reader::Safetensors(reader) => reader.read(index, entry, &self.context),
            Reader::PyTorch(reader) => reader.read(index, entry, &self.context),
        }
    }

    /// Reads every tensor to the CPU, under the names of the file.
    ///
    /// # Errors
    /// As [`WeightFile::read`].
    pub fn read_all(mut self) -> Result<Vec<(String, Tensor)>, WeightsError> {
        (0..self.entries.len()).map(|index| Ok((self.entries[index].name.clone(), self.read(index)?))).collect()
    }
}

/// What every error about a file has to say.
#[derive(Clone, Debug)]
pub(super) struct FileContext {
    pub(super) path: PathBuf,
    /// Length of the file in bytes.
    pub(super) length: u64,
}

impl FileContext {
    pub(super) fn io(&self, action: &'static str) -> impl Fn(io::Error) -> WeightsError {
        let path = self.path.clone();
        move |source| WeightsError::Io { action, path: path.clone(), source }
    }

    pub(super) fn truncated(&self, expected: u64) -> WeightsError {
        WeightsError::Truncated { path: self.path.clone(), expected, got: self.length }
    }

    pub(super) fn corrupt(&self, part: impl Display, expected: impl Display, got: impl Display) -> WeightsError {
        WeightsError::Corrupt {
            path: self.path.clone(),
            part: part.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    pub(super) fn transfer(&self, tensor: &str, error: TransferError) -> WeightsError {
        match error {
            TransferError::Stream(source) => self.io("read")(source),
            TransferError::Libtorch(source) => {
                WeightsError::Libtorch { action: format!("reading `{tensor}` of {}", self.path.display()), source }
            }
        }
    }
}
