//! The zip archive of a PyTorch file: members that are stored, not compressed, in a folder of any name.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use rawzip::{
    CompressionMethod, Crc32, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive, ZipArchiveEntryWayfinder,
    ZipReader,
};

use crate::weights::{WeightsError, file::FileContext};

/// The longest member that is held in memory as bytes (the pickle): enough for twenty thousand tensors.
const LONGEST_SMALL_MEMBER: u64 = 4 << 20;

/// An open archive whose directory has been read and checked.
#[derive(Debug)]
pub(super) struct Archive {
    zip: ZipArchive<FileReader>,
    /// Members by their names within the folder that holds `data.pkl`.
    members: BTreeMap<String, Stored>,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    way: ZipArchiveEntryWayfinder,
    length: u64,
    crc32: u32,
    /// Neither compressed nor encrypted, as `torch.save` leaves every member.
    plain: bool,
}

impl Archive {
    pub(super) fn open(file: File, context: &FileContext) -> Result<Self, WeightsError> {
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let zip = ZipArchive::from_file(file, &mut buffer).map_err(|error| {
            let got = format!("none in its {} bytes, the file may be truncated ({error})", context.length);
            context.corrupt("archive", "a zip directory at the end of the file", got)
        })?;
        let damaged = |error: rawzip::Error| context.corrupt("archive", "a valid zip directory", error);
        let mut members = BTreeMap::new();
        let mut total = 0u64;
        let mut entries = zip.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
            let length = entry.uncompressed_size_hint();
            let plain = entry.compression_method() == CompressionMethod::STORE
                && !entry.flags().is_encrypted()
                && entry.compressed_size_hint() == length;
            // Members that overlap could unfold a small file into a huge one.
            total = total.saturating_add(entry.compressed_size_hint());
            if total > context.length {
                return Err(context.corrupt(name, "members that fit into the file", format!("{total} bytes or more")));
            }
            let stored = Stored { way: entry.wayfinder(), length, crc32: entry.crc32(), plain };
            if members.insert(name.clone(), stored).is_some() {
                return Err(context.corrupt("archive", "members of different names", format!("two called {name}")));
            }
        }
        Ok(Self { members: within_folder(members, context)?, zip })
    }

    /// Length in bytes of a member; `None` if there is none of this name.
    pub(super) fn length(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|stored| stored.length)
    }

    /// The bytes of a small member, checked; `None` if there is none of this name.
    pub(super) fn read_small(&self, name: &str, context: &FileContext) -> Result<Option<Vec<u8>>, WeightsError> {
        let Some(length) = self.length(name) else { return Ok(None) };
        let mut member = self.member(name, context)?;
        if length > LONGEST_SMALL_MEMBER {
            let expected = format!("at most {LONGEST_SMALL_MEMBER} bytes");
            return Err(context.corrupt(name, expected, format!("{length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        member.read_exact(&mut bytes).map_err(context.io("read"))?;
        member.check(context)?;
        Ok(Some(bytes))
    }

    /// A reader of a member's bytes.
    pub(super) fn member(&self, name: &str, context: &FileContext) -> Result<Member<'_>, WeightsError> {
        let stored =
            self.members.get(name).ok_or_else(|| context.corrupt("archive", format!("a member {name}"), "none"))?;
        if !stored.plain {
            return Err(context.corrupt(name, "a member that is only stored", "a compressed or encrypted one"));
        }
        let entry = self.zip.get_entry(stored.way).map_err(|error| context.corrupt(name, "a zip header", error))?;
        let (_, end) = entry.compressed_data_range();
        if end > context.length {
            return Err(context.truncated(end));
        }
        Ok(Member { name: name.to_owned(), reader: entry.reader(), actual: Crc32::new(), expected: stored.crc32 })
    }
}

/// The members of the one folder that holds `data.pkl`, by their names within it.
fn within_folder(
    members: BTreeMap<String, Stored>,
    context: &FileContext,
) -> Result<BTreeMap<String, Stored>, WeightsError> {
    let pickles: Vec<&str> = members.keys().filter_map(|name| name.strip_suffix("data.pkl")).collect();
    let folder = match pickles.as_slice() {
        [folder] if folder.is_empty() || folder.ends_with('/') => (*folder).to_owned(),
        found => {
            let got = format!("{} of them among {} members", found.len(), members.len());
            return Err(context.corrupt("archive", "one data.pkl, which torch.save writes", got));
        }
    };
    if members.contains_key(&format!("{folder}constants.pkl")) {
        let got = "a TorchScript program (torch.jit.save), not a file of tensors";
        return Err(WeightsError::UnreadPyTorchFormat { path: context.path.clone(), got });
    }
    Ok(members
        .into_iter()
        .filter_map(|(name, stored)| Some((name.strip_prefix(&folder)?.to_owned(), stored)))
        .collect())
}

/// Reads a member and sums its bytes up.
pub(super) struct Member<'a> {
    name: String,
    reader: ZipReader<&'a FileReader>,
    actual: Crc32,
    expected: u32,
}

impl Member<'_> {
    /// Compares the checksum of all that was read; call it at the end of the member.
    ///
    /// `torch.serialization.set_crc32_options(False)` writes zeros for checksums: then there is nothing to compare.
    pub(super) fn check(self, context: &FileContext) -> Result<(), WeightsError> {
        let actual = self.actual.checksum();
        if self.expected == 0 || self.expected == actual {
            return Ok(());
        }
        let expected = format!("checksum {:08x}", self.expected);
        Err(context.corrupt(self.name, expected, format!("{actual:08x}, the file is damaged")))
    }
}

impl Read for Member<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.actual.update(&buffer[..read]);
        Ok(read)
    }
}
