//! Writing the archive that `torch.load` reads: a pickle of an ordered dictionary, and a member for each tensor's bytes.
//!
//! Source: PyTorch's notes on serialization and its files, byte by byte; Python's `pickletools` for the opcodes. The pickle is of
//! protocol 2, which PyTorch itself writes, and names nothing but what `weights_only=True` allows. Every tensor has a storage of
//! its own and is contiguous.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use rawzip::{ErrorKind, Header, ZipArchiveWriter, extra_fields::ExtraFieldId};
use tch::Tensor;

use crate::weights::{
    WeightsError,
    atomic::write_atomically,
    bytes::{Transfer, TransferError},
    element,
};

/// The folder within the archive; any name will do.
const FOLDER: &str = "archive";

/// Where the bytes of every member begin, so that a file can be mapped into memory; PyTorch's own number.
const ALIGNMENT: u64 = 64;

/// The extra field of a zip header that PyTorch pads members with.
const PADDING: ExtraFieldId = ExtraFieldId::new(u16::from_le_bytes(*b"FB"));

/// Bytes of a member's header in front of its name, and of an extra field in front of its contents.
const HEADER_BYTES: u64 = 30;
const FIELD_BYTES: u64 = 4;

/// Writes tensors under their names, in their order, for PyTorch on any machine.
pub(in crate::weights) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), WeightsError> {
    let pickle = pickle(path, tensors)?;
    write_atomically(path, |file| {
        let failed = |error| match error {
            TransferError::Stream(source) => WeightsError::Io { action: "write", path: path.to_owned(), source },
            TransferError::Libtorch(source) => {
                WeightsError::Libtorch { action: format!("writing {}", path.display()), source }
            }
        };
        let mut archive = Archive { zip: ZipArchiveWriter::new(file) };
        let mut transfer = Transfer::default();
        let bytes = |bytes: &'static [u8]| move |member: &mut dyn Write| Ok(member.write_all(bytes)?);
        archive.member("data.pkl", |member| Ok(member.write_all(&pickle)?)).map_err(failed)?;
        archive.member("byteorder", bytes(b"little")).map_err(failed)?;
        for (number, (_, tensor)) in tensors.iter().enumerate() {
            let name = format!("data/{number}");
            archive.member(&name, |member| transfer.write(&mut { member }, tensor)).map_err(failed)?;
        }
        archive.member("version", bytes(b"3\n")).map_err(failed)?;
        archive.zip.finish().map_err(|error| failed(stream(error)))?;
        Ok(())
    })
}

struct Archive<'a, 'file> {
    zip: ZipArchiveWriter<&'a mut BufWriter<&'file File>>,
}

impl Archive<'_, '_> {
    /// Appends a member, aligned.
    fn member(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let path = format!("{FOLDER}/{name}");
        let start = self.zip.stream_offset() + HEADER_BYTES + path.len() as u64 + FIELD_BYTES;
        let padding = vec![b'Z'; (start.next_multiple_of(ALIGNMENT) - start) as usize];
        let file = self.zip.new_file(path.as_str()).extra_field(PADDING, &padding, Header::LOCAL).map_err(stream)?;
        let (mut entry, settings) = file.start().map_err(stream)?;
        let mut contents = settings.wrap(&mut entry);
        write(&mut contents)?;
        let (_, summary) = contents.finish().map_err(stream)?;
        entry.finish(summary).map_err(stream)?;
        Ok(())
    }
}

/// The error of the stream under the archive, or what the archive cannot hold.
fn stream(error: rawzip::Error) -> TransferError {
    TransferError::Stream(match error.kind() {
        ErrorKind::IO(source) => io::Error::new(source.kind(), source.to_string()), // a full disk stays one
        _ => io::Error::other(error),
    })
}

/// `OrderedDict` of names and tensors, each rebuilt from its storage.
fn pickle(path: &Path, tensors: &[(String, Tensor)]) -> Result<Vec<u8>, WeightsError> {
    let mut out = vec![0x80, 2]; // protocol 2
    ordered_dict(&mut out);
    out.push(b'('); // a mark: from here on are the dictionary's items
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        let class =
            tensor.f_kind().ok().and_then(element::storage_class_of).ok_or_else(|| WeightsError::UnsupportedType {
                path: path.to_owned(),
                tensor: name.clone(),
                got: tensor.f_kind().map_or_else(|error| error.to_string(), |kind| format!("{kind:?}")),
            })?;
        text(&mut out, name);
        global(&mut out, "torch._utils", "_rebuild_tensor_v2");
        out.push(b'('); // its arguments
        out.push(b'('); // the storage's identifier
        text(&mut out, "storage");
        global(&mut out, "torch", class);
        text(&mut out, &number.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.numel() as i64);
        out.extend(b"tQ"); // a tuple, the identifier of something outside the pickle
        integer(&mut out, 0); // offset
        let shape = tensor.size();
        tuple(&mut out, &shape);
        tuple(&mut out, &contiguous_strides(&shape));
        out.push(0x89); // False: no gradient
        ordered_dict(&mut out); // no hooks
        out.extend(b"tR"); // a tuple, the function called with it
    }
    out.extend(b"u."); // the items into the dictionary; the end
    Ok(out)
}

fn ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend(b")R"); // called with no arguments
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn tuple(out: &mut Vec<u8>, items: &[i64]) {
    out.push(b'(');
    items.iter().for_each(|item| integer(out, *item));
    out.push(b't');
}

/// A number that is not negative, in as few bytes as its opcode allows.
fn integer(out: &mut Vec<u8>, value: i64) {
    match value {
        0..=0xff => out.extend([b'K', value as u8]),
        0x100..=0x7fff_ffff => {
            out.push(b'J');
            out.extend((value as i32).to_le_bytes());
        }
        _ => {
            out.extend([0x8a, 8]); // a long integer of eight bytes
            out.extend(value.to_le_bytes());
        }
    }
}

/// As PyTorch counts them: a dimension of size 0 counts as 1.
fn contiguous_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}
