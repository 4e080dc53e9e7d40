//! Which format a file has, told by its first bytes, and which it is to have.

/// Formats of weights that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Safetensors,
    /// The zip archive that `torch.save` writes since PyTorch 1.6.
    PyTorch,
    /// The stream that `torch.save` wrote before.
    LegacyPyTorch,
    /// A format of PyTorch that is older still.
    OldPyTorch(&'static str),
}

/// Formats that weights are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileFormat {
    /// Safetensors, with metadata.
    #[default]
    Safetensors,
    /// PyTorch's zip archive, which `torch.load` reads, also with `weights_only=True`. It has no place for metadata.
    PyTorch,
}

/// How much of a file's start [`detect`] wants to see.
pub(super) const START_BYTES: u64 = 512;

/// The pickled number with which `torch.save` marked its files before 1.6.
const LEGACY_MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The format of a file of `length` bytes that begins with `start`; otherwise what the file seems to be.
pub(super) fn detect(start: &[u8], length: u64) -> Result<Format, String> {
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Ok(Format::PyTorch);
    }
    if start.first() == Some(&0x80) && start.get(2..).is_some_and(|rest| rest.starts_with(LEGACY_MAGIC)) {
        return Ok(Format::LegacyPyTorch);
    }
    if start.get(257..262) == Some(b"ustar") {
        return Ok(Format::OldPyTorch("a tar archive (torch.save before PyTorch 0.1.10 wrote these)"));
    }
    if start.get(8) == Some(&b'{') {
        return Ok(Format::Safetensors);
    }
    Err(describe(start, length))
}

/// Names the files that most often stand where weights should be.
fn describe(start: &[u8], length: u64) -> String {
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start();
    if length == 0 {
        "an empty file".to_owned()
    } else if text.starts_with("version https://git-lfs") {
        "a Git LFS pointer; fetch the file itself with `git lfs pull`".to_owned()
    } else if text.starts_with('<') {
        "a web page; the download went wrong".to_owned()
    } else if start.starts_with(b"\x89HDF") {
        "an HDF5 file".to_owned()
    } else if matches!(start, [0x80, 2..=5, ..]) {
        "a Python pickle that torch.save did not write".to_owned()
    } else {
        let first: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{length} bytes that begin with {}", first.join(" "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(detect(b"PK\x03\x04....", 8), Ok(Format::PyTorch));
        assert_eq!(detect(b"\x02\0\0\0\0\0\0\0{}", 10), Ok(Format::Safetensors));
        assert_eq!(detect(&[b"\x80\x02", LEGACY_MAGIC].concat(), 15), Ok(Format::LegacyPyTorch));
        let tar = [&[b'a'; 257][..], b"ustar\0"].concat();
        assert!(matches!(detect(&tar, 600), Ok(Format::OldPyTorch(_))));
    }

    #[test]
    fn what_is_not_weights_is_named() {
        for (start, name) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"\n<!DOCTYPE html>", "web page"),
            (b"\x80\x04\x95", "pickle"),
            (b"\x89HDF\r\n", "HDF5"),
            (b"\x01\x02", "2 bytes that begin with 01 02"),
        ] {
            let described = detect(start, start.len() as u64).unwrap_err();
            assert!(described.contains(name), "{described}");
        }
    }
}
