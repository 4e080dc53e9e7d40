//! Rendered drawings in one file, so that a run need not render thousands of them again.
//!
//! Layout, little-endian: magic `DiMpack1`; fingerprint u64 of all that decides about the pixels; size u32; count u32;
//! the length in bytes of each record u32; the records (each `size * size * 3` bytes, zlib; empty if the drawing cannot be
//! rendered); a checksum u64 of all before it. Compressed drawings are a tenth of their pixels or less, so a pack is held
//! in memory at any size in use.

use std::io::{self, Read, Write};
use std::ops::Range;

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

use crate::mix::absorb_bytes;

const MAGIC: [u8; 8] = *b"DiMpack1";
const HEADER_BYTES: usize = MAGIC.len() + 8 + 4 + 4;
const CHECKSUM_BYTES: usize = 8;

/// What a pack must have been made from to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) fingerprint: u64,
    pub(super) size: usize,
    pub(super) count: usize,
}

impl Expected {
    fn header(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&self.fingerprint.to_le_bytes());
        header[16..20].copy_from_slice(&(self.size as u32).to_le_bytes());
        header[20..24].copy_from_slice(&(self.count as u32).to_le_bytes());
        header
    }

    fn image_bytes(self) -> usize {
        self.size * self.size * 3
    }
}

/// A checked pack.
#[derive(Debug)]
pub(super) struct Pack {
    expected: Expected,
    bytes: Vec<u8>,
    records: Vec<Range<usize>>,
}

impl Pack {
    /// Joins compressed records; an empty one stands for a drawing that cannot be rendered.
    pub(super) fn join(expected: Expected, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = expected.header().to_vec();
        bytes.extend(records.iter().flat_map(|record| (record.len() as u32).to_le_bytes()));
        bytes.extend(records.iter().flatten());
        let checksum = absorb_bytes(0, &bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Checks the bytes of a file against what is expected of them; says why if they are of no use.
    pub(super) fn check(bytes: Vec<u8>, expected: Expected) -> Result<Self, &'static str> {
        let body = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or("the cache is truncated")?;
        if !bytes.starts_with(&MAGIC) {
            return Err("the cache is damaged or of another version");
        }
        if !bytes.starts_with(&expected.header()) {
            return Err("the cache is stale: drawings or options changed");
        }
        if absorb_bytes(0, &bytes[..body]).to_le_bytes() != bytes[body..] {
            return Err("the cache is truncated or damaged");
        }
        let mut start = HEADER_BYTES + 4 * expected.count;
        let lengths = bytes.get(HEADER_BYTES..start).ok_or("the cache is damaged")?;
        let mut records = Vec::with_capacity(expected.count);
        for length in lengths.chunks_exact(4) {
            let end = start + u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            records.push(start..end);
            start = end;
        }
        if start != body {
            return Err("the cache is damaged");
        }
        Ok(Self { expected, bytes, records })
    }

    /// Side length in pixels.
    pub(super) fn size(&self) -> usize {
        self.expected.size
    }

    /// The pixels of a drawing, or `None` if it could not be rendered.
    pub(super) fn pixels(&self, index: usize) -> Option<io::Result<Vec<u8>>> {
        let record = &self.bytes[self.records.get(index)?.clone()];
        let inflate = || {
            let mut pixels = vec![0; self.expected.image_bytes()];
            ZlibDecoder::new(record).read_exact(&mut pixels).map(|()| pixels)
        };
        (!record.is_empty()).then(inflate)
    }
}

/// Compresses the pixels of one drawing.
pub(super) fn record(pixels: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(pixels)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    const EXPECTED: Expected = Expected { fingerprint: 9, size: 2, count: 3 };

    fn packed() -> (Vec<Vec<u8>>, Vec<u8>) {
        let images = vec![vec![1; 12], Vec::new(), (0..12).collect()];
        let records: Vec<_> = images
            .iter()
            .map(|pixels: &Vec<u8>| if pixels.is_empty() { Vec::new() } else { record(pixels).unwrap() })
            .collect();
        (images, Pack::join(EXPECTED, &records))
    }

    #[test]
    fn what_is_packed_is_read_again() {
        let (images, bytes) = packed();
        let pack = Pack::check(bytes, EXPECTED).unwrap();
        assert_eq!(pack.size(), 2);
        for (index, pixels) in images.into_iter().enumerate() {
            assert_eq!(pack.pixels(index).map(Result::unwrap), Some(pixels).filter(|pixels| !pixels.is_empty()));
        }
        assert!(pack.pixels(3).is_none());
    }

    #[test]
    fn a_pack_of_other_drawings_is_stale() {
        for other in [
            Expected { fingerprint: 8, ..EXPECTED },
            Expected { size: 3, ..EXPECTED },
            Expected { count: 2, ..EXPECTED },
        ] {
            assert_eq!(Pack::check(packed().1, other).unwrap_err(), "the cache is stale: drawings or options changed");
        }
    }

    proptest! {
        #[test]
        fn no_truncated_or_damaged_pack_is_accepted(at in 0.0..1.0, flip in 1_u8..) {
            let (_, whole) = packed();
            let at = (at * whole.len() as f64) as usize;
            prop_assert!(Pack::check(whole[..at].to_vec(), EXPECTED).is_err());
            let mut damaged = whole;
            damaged[at] ^= flip;
            prop_assert!(Pack::check(damaged, EXPECTED).is_err());
        }
    }
}
