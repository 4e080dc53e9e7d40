//! The files that `torch.save` writes: since PyTorch 1.6 a zip archive of one pickle and the tensors' bytes, before it a stream.
//!
//! [`archive`] finds the members of an archive and [`legacy`] the parts of a stream, [`pickle`] reads the pickle without
//! executing anything ([`globals`] is the list of what a pickle may name), [`dictionary`] finds the dictionary of tensors,
//! and this file reads the tensors. [`write`] goes the other way, into an archive.

mod archive;
mod cursor;
mod dictionary;
mod globals;
mod legacy;
mod pickle;
mod value;
mod write;

pub(super) use self::write::write;

use std::{collections::BTreeMap, fs::File};

use tch::{Kind, Tensor};

use self::{
    archive::Archive,
    legacy::Stream,
    pickle::{PickleError, Problem},
    value::{TensorRecord, Value, Values},
};
use super::{
    WeightsError,
    bytes::{ByteOrder, Transfer},
    element,
    file::{Entry, FileContext},
};

/// An open PyTorch file.
#[derive(Debug)]
pub(super) struct PyTorch {
    container: Container,
    order: ByteOrder,
    storages: Vec<Storage>,
    views: Vec<View>,
    transfer: Transfer,
}

/// Where the storages' bytes are.
#[derive(Debug)]
enum Container {
    Archive(Archive),
    Stream(Stream),
}

impl Container {
    /// Length of a storage in bytes; `None` if there is none of this key.
    fn length(&self, key: &str) -> Option<u64> {
        match self {
            Self::Archive(archive) => archive.length(&member(key)),
            Self::Stream(stream) => stream.length(key),
        }
    }
}

/// The member of an archive that holds a storage.
fn member(key: &str) -> String {
    format!("data/{key}")
}

/// The bytes that one or more tensors look at.
#[derive(Debug)]
struct Storage {
    key: String,
    kind: Kind,
    count: i64,
    /// Tensors not yet read; a storage is kept while there are any.
    unread: usize,
    kept: Option<Tensor>,
}

/// Which elements of a storage a tensor has; all in elements.
#[derive(Debug)]
struct View {
    storage: usize,
    offset: i64,
    strides: Vec<i64>,
}

impl PyTorch {
    /// Opens an archive: finds the dictionary of tensors called `key` (or the only one) and checks it against the members.
    pub(super) fn open(
        file: File,
        key: Option<&str>,
        context: &FileContext,
    ) -> Result<(Self, Vec<Entry>), WeightsError> {
        let archive = Archive::open(file, context)?;
        let order = match archive.read_small("byteorder", context)?.as_deref() {
            None | Some(b"little") => ByteOrder::Little, // absent before PyTorch 2.1, which had no other
            Some(b"big") => ByteOrder::Big,
            Some(other) => {
                return Err(context.corrupt("byteorder", "little or big", String::from_utf8_lossy(other).into_owned()));
            }
        };
        let bytes = archive
            .read_small("data.pkl", context)?
            .ok_or_else(|| context.corrupt("archive", "a member data.pkl", "none"))?;
        let values = pickle::read(&bytes).map_err(|error| pickle_error(error, "data.pkl", context))?;
        Self::of(Container::Archive(archive), order, &values, key, context)
    }

    /// Opens a stream of before PyTorch 1.6, likewise.
    pub(super) fn open_legacy(
        file: File,
        key: Option<&str>,
        context: &FileContext,
    ) -> Result<(Self, Vec<Entry>), WeightsError> {
        let (stream, values) = Stream::open(file, context)?;
        Self::of(Container::Stream(stream), ByteOrder::Little, &values, key, context)
    }

    fn of(
        container: Container,
        order: ByteOrder,
        values: &Values,
        key: Option<&str>,
        context: &FileContext,
    ) -> Result<(Self, Vec<Entry>), WeightsError> {
        let tensors = dictionary::find(values, key).map_err(|dictionaries| WeightsError::Dictionary {
            path: context.path.clone(),
            key: key.map(str::to_owned),
            dictionaries,
        })?;

        let mut reader =
            Self { container, order, storages: Vec::new(), views: Vec::new(), transfer: Transfer::default() };
        let mut numbers = BTreeMap::new();
        let mut entries = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let (storage, kind) = reader.storage(values, tensor, &mut numbers, context)?;
            reader.views.push(View { storage, offset: tensor.offset, strides: tensor.strides.clone() });
            entries.push(Entry { name: name.to_owned(), shape: tensor.shape.clone(), kind });
        }
        Ok((reader, entries))
    }

    /// The number and type of a tensor's storage, which is entered when it is first met.
    fn storage<'a>(
        &mut self,
        values: &'a Values,
        tensor: &TensorRecord,
        numbers: &mut BTreeMap<(&'a str, &'static str), usize>,
        context: &FileContext,
    ) -> Result<(usize, Kind), WeightsError> {
        let Value::Storage(record) = values.get(tensor.storage) else {
            return Err(context.corrupt("data.pkl", "a storage", values.describe(tensor.storage)));
        };
        if let Some(&number) = numbers.get(&(record.key.as_str(), record.class)) {
            self.storages[number].unread += 1;
            return Ok((number, record.kind));
        }
        let needed = element::count_and_bytes(&[record.count], record.kind).map_or(u64::MAX, |(_, bytes)| bytes);
        let part = || format!("storage {}", record.key);
        match self.container.length(&record.key) {
            Some(length) if length == needed => {}
            Some(length) => {
                return Err(context.corrupt(part(), format!("{needed} bytes"), format!("{length} bytes")));
            }
            None => return Err(context.corrupt(part(), format!("{needed} bytes"), "no such storage")),
        }
        let key = record.key.clone();
        self.storages.push(Storage { key, kind: record.kind, count: record.count, unread: 1, kept: None });
        numbers.insert((record.key.as_str(), record.class), self.storages.len() - 1);
        Ok((self.storages.len() - 1, record.kind))
    }

    /// Reads tensor number `index`, which `entry` describes.
    pub(super) fn read(&mut self, index: usize, entry: &Entry, context: &FileContext) -> Result<Tensor, WeightsError> {
        let view = &self.views[index];
        let storage = &mut self.storages[view.storage];
        let flat = match storage.kept.take() {
            Some(flat) => flat,
            None => {
                let (transfer, order) = (&mut self.transfer, self.order);
                let failed = |error| context.transfer(&entry.name, error);
                match &mut self.container {
                    Container::Archive(archive) => {
                        let mut member = archive.member(&member(&storage.key), context)?;
                        let flat = transfer.read(&mut member, storage.count, storage.kind, order).map_err(failed)?;
                        member.check(context)?;
                        flat
                    }
                    Container::Stream(stream) => {
                        let mut bytes = stream.storage(&storage.key, context)?;
                        transfer.read(&mut bytes, storage.count, storage.kind, order).map_err(failed)?
                    }
                }
            }
        };
        storage.unread = storage.unread.saturating_sub(1);
        if storage.unread > 0 {
            storage.kept = Some(flat.shallow_clone());
        }
        flat.f_as_strided(entry.shape.as_slice(), view.strides.as_slice(), view.offset).map_err(|source| {
            WeightsError::Libtorch { action: format!("viewing `{}` of {}", entry.name, context.path.display()), source }
        })
    }
}

fn pickle_error(error: PickleError, part: &str, context: &FileContext) -> WeightsError {
    let part = format!("{part}, byte {}", error.at);
    match error.problem {
        Problem::Global(global) => WeightsError::ForbiddenGlobal { path: context.path.clone(), global },
        Problem::Malformed { expected, got } => context.corrupt(part, expected, got),
    }
}
