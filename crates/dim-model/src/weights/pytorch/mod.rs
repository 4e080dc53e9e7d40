//! The files that `torch.save` writes since PyTorch 1.6: a zip archive of one pickle and the tensors' bytes.
//!
//! [`archive`] finds the members, [`pickle`] reads the pickle without executing anything ([`globals`] is the list of
//! what a pickle may name), [`dictionary`] finds the dictionary of tensors, and this file reads the tensors. [`write`] goes the
//! other way.

mod archive;
mod cursor;
mod dictionary;
mod globals;
mod pickle;
mod value;
mod write;

pub(super) use self::write::write;

use std::{collections::BTreeMap, fs::File};

use tch::{Kind, Tensor};

use self::{
    archive::Archive,
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
    archive: Archive,
    order: ByteOrder,
    storages: Vec<Storage>,
    views: Vec<View>,
    transfer: Transfer,
}

/// The bytes that one or more tensors look at.
#[derive(Debug)]
struct Storage {
    member: String,
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
    /// Finds the dictionary of tensors called `key` (or the only one) and checks it against the archive.
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
        let values = pickle::read(&bytes).map_err(|error| pickle_error(error, context))?;
        let tensors = dictionary::find(&values, key).map_err(|dictionaries| WeightsError::Dictionary {
            path: context.path.clone(),
            key: key.map(str::to_owned),
            dictionaries,
        })?;

        let mut reader =
            Self { archive, order, storages: Vec::new(), views: Vec::new(), transfer: Transfer::default() };
        let mut numbers = BTreeMap::new();
        let mut entries = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let (storage, kind) = reader.storage(&values, tensor, &mut numbers, context)?;
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
        let member = format!("data/{}", record.key);
        let needed = element::count_and_bytes(&[record.count], record.kind).map_or(u64::MAX, |(_, bytes)| bytes);
        match self.archive.length(&member) {
            Some(length) if length == needed => {}
            Some(length) => {
                return Err(context.corrupt(member, format!("{needed} bytes"), format!("{length} bytes")));
            }
            None => return Err(context.corrupt("archive", format!("a member {member}"), "none")),
        }
        self.storages.push(Storage { member, kind: record.kind, count: record.count, unread: 1, kept: None });
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
                let mut member = self.archive.member(&storage.member, context)?;
                let flat = self
                    .transfer
                    .read(&mut member, storage.count, storage.kind, self.order)
                    .map_err(|error| context.transfer(&entry.name, error))?;
                member.check(context)?;
                flat
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

fn pickle_error(error: PickleError, context: &FileContext) -> WeightsError {
    let part = format!("data.pkl, byte {}", error.at);
    match error.problem {
        Problem::Global(global) => WeightsError::ForbiddenGlobal { path: context.path.clone(), global },
        Problem::Malformed { expected, got } => context.corrupt(part, expected, got),
    }
}
