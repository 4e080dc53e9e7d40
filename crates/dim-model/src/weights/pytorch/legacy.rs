//! The stream that `torch.save` wrote before PyTorch 1.6, and still writes where it is asked to: five pickles (a magic number, the
//! version of the protocol, the sizes of types of the machine, what was saved, the keys of the storages), then, for each key in turn, the
//! number of elements (i64) and the elements, little-endian, to the end of the file.
//!
//! Storages lie in the order of the list, which is not that of the tensors, and nothing here is summed up by a checksum.
//! Source: PyTorch's `torch/serialization.py` (`_legacy_save`, `_legacy_load`).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom, Take},
};

use super::{
    pickle, pickle_error,
    value::{StorageRecord, Value, Values},
};
use crate::weights::{WeightsError, element, file::FileContext};

/// The pickles together are at most so long: enough for twenty thousand tensors.
const LONGEST_HEAD: u64 = 4 << 20;
/// The protocol of every such file.
const PROTOCOL: i64 = 1001;
/// Bytes of the number of elements before each storage.
const COUNT_BYTES: u64 = 8;

/// The bytes of the storages of an open file.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    /// First byte of each storage, and the number of bytes.
    places: BTreeMap<String, (u64, u64)>,
}

impl Stream {
    /// Reads the pickles and finds every storage; also returns what was saved.
    pub(super) fn open(mut file: File, context: &FileContext) -> Result<(Self, Values), WeightsError> {
        let mut head = Vec::new();
        file.by_ref().take(LONGEST_HEAD).read_to_end(&mut head).map_err(context.io("read"))?;
        let mut at = 0;
        let mut next = |what: &str| {
            let (values, length) = pickle::read_first(head.get(at..).unwrap_or_default())
                .map_err(|error| pickle_error(error, &format!("the pickle of {what}, from byte {at}"), context))?;
            at += length;
            Ok::<_, WeightsError>(values)
        };
        next("the magic number")?;
        let protocol = next("the protocol")?;
        if !matches!(protocol.get(protocol.root()), Value::Int(PROTOCOL)) {
            let got = protocol.describe(protocol.root());
            return Err(context.corrupt("the pickle of the protocol", PROTOCOL, format!("{got} other than that")));
        }
        next("the sizes of types")?;
        let values = next("the tensors")?;
        let keys = next("the storages' keys")?;
        let places = Self::find(&mut file, at as u64, &keys, &values, context)?;
        Ok((Self { file, places }, values))
    }

    /// Walks over the storages from byte `at` on.
    fn find(
        file: &mut File,
        mut at: u64,
        keys: &Values,
        values: &Values,
        context: &FileContext,
    ) -> Result<BTreeMap<String, (u64, u64)>, WeightsError> {
        let records = records(values, context)?;
        let Value::List(list) = keys.get(keys.root()) else {
            return Err(context.corrupt("the pickle of the storages' keys", "a list", keys.describe(keys.root())));
        };
        let mut places = BTreeMap::new();
        for &key in list {
            let Value::Text(key) = keys.get(key) else {
                return Err(context.corrupt("a storage's key", "a string", keys.describe(key)));
            };
            let part = format!("storage {key}");
            let Some(record) = records.get(key.as_str()) else {
                return Err(context.corrupt(part, "a tensor that has it", "none"));
            };
            let bytes = element::count_and_bytes(&[record.count], record.kind).map_or(u64::MAX, |(_, bytes)| bytes);
            let end = at.saturating_add(COUNT_BYTES).saturating_add(bytes);
            if end > context.length {
                return Err(context.truncated(end));
            }
            let mut count = [0; COUNT_BYTES as usize];
            file.seek(SeekFrom::Start(at)).map_err(context.io("read"))?;
            file.read_exact(&mut count).map_err(context.io("read"))?;
            let count = i64::from_le_bytes(count);
            if count != record.count {
                return Err(context.corrupt(part, format!("{} elements", record.count), format!("{count}")));
            }
            if places.insert(key.clone(), (at + COUNT_BYTES, bytes)).is_some() {
                return Err(context.corrupt(part, "one of this key", "two"));
            }
            at = end;
        }
        if at != context.length {
            let got = format!("{} bytes", context.length - at);
            return Err(context.corrupt("the end of the file", "nothing behind the last storage", got));
        }
        Ok(places)
    }

    /// Length of a storage in bytes; `None` if there is none of this key.
    pub(super) fn length(&self, key: &str) -> Option<u64> {
        self.places.get(key).map(|&(_, bytes)| bytes)
    }

    /// A reader of a storage's bytes.
    pub(super) fn storage(&mut self, key: &str, context: &FileContext) -> Result<Take<&mut File>, WeightsError> {
        let &(start, bytes) =
            self.places.get(key).ok_or_else(|| context.corrupt("the storages", format!("one of key {key}"), "none"))?;
        self.file.seek(SeekFrom::Start(start)).map_err(context.io("read"))?;
        Ok(self.file.by_ref().take(bytes))
    }
}

/// The storages that the tensors name, by key.
fn records<'a>(
    values: &'a Values,
    context: &FileContext,
) -> Result<BTreeMap<&'a str, &'a StorageRecord>, WeightsError> {
    let mut records: BTreeMap<&str, &StorageRecord> = BTreeMap::new();
    for record in values.storages() {
        let first = records.entry(&record.key).or_insert(record);
        if (first.class, first.count) != (record.class, record.count) {
            let (expected, got) = (format!("{} of {}", first.class, first.count), record);
            let got = format!("{} of {}", got.class, got.count);
            return Err(context.corrupt(format!("storage {}", record.key), expected, got));
        }
    }
    Ok(records)
}
