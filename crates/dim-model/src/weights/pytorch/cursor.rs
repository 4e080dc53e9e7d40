//! Reading the pieces of a pickle's bytes, never past their end.

use super::pickle::{PickleError, Problem};

/// A position in a pickle.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The byte that is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..length) else {
            return Err(self.malformed(format!("{length} more bytes"), format!("{}", rest.len())));
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, PickleError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, PickleError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, PickleError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A length of eight bytes; one that no memory could hold is an error like any other that is too long.
    pub(super) fn length_u64(&mut self) -> Result<usize, PickleError> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    /// A string of `length` bytes.
    pub(super) fn text(&mut self, length: usize) -> Result<&'a str, PickleError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|error| self.malformed("text in UTF-8", error.to_string()))
    }

    /// The text up to the next line feed, which is passed over.
    pub(super) fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.malformed("a line", "the end of the pickle"));
        };
        let line = self.text(length)?;
        self.at += 1;
        Ok(line)
    }

    pub(super) fn malformed(&self, expected: impl Into<String>, got: impl Into<String>) -> PickleError {
        PickleError { at: self.at, problem: Problem::Malformed { expected: expected.into(), got: got.into() } }
    }
}
