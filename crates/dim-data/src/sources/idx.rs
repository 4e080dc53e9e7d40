//! IDX, the format of MNIST and its successors, plain or compressed with gzip.
//!
//! A header of big-endian 32-bit numbers (magic number, then one length per dimension) and then the bytes. The magic number
//! is 0x0000_0803 for images (bytes, three dimensions: image, row, column) and 0x0000_0801 for labels.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::DataError;

const IMAGES: (u32, &str) = (0x0000_0803, "IDX, bytes in three dimensions");
const LABELS: (u32, &str) = (0x0000_0801, "IDX, bytes in one dimension");

/// All images of an IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
    /// The bytes, `[image, row, column]`.
    pub pixels: Vec<u8>,
}

/// Reads a file of images.
///
/// # Errors
///
/// [`DataError::WrongMagic`], [`DataError::WrongLength`] if the file is truncated or longer than its header says,
/// [`DataError::TruncatedStream`], [`DataError::NoImages`] if a dimension is 0, [`DataError::Io`]. `mend` ends each
/// message.
pub fn read_images(path: &Path, mend: &'static str) -> Result<IdxImages, DataError> {
    let (dimensions, pixels) = read::<3>(path, IMAGES, mend)?;
    let [count, rows, columns] = dimensions;
    if dimensions.contains(&0) {
        return Err(DataError::NoImages {
            path: path.to_owned(),
            expected: "at least one image of at least one pixel".into(),
            found: format!("{count} images of {rows} x {columns}"),
            mend,
        });
    }
    Ok(IdxImages { count, rows, columns, pixels })
}

/// Reads a file of labels.
///
/// # Errors
///
/// As [`read_images`].
pub fn read_labels(path: &Path, mend: &'static str) -> Result<Vec<u8>, DataError> {
    Ok(read::<1>(path, LABELS, mend)?.1)
}

/// Reads the header and all bytes of a file with `N` dimensions.
fn read<const N: usize>(
    path: &Path,
    (magic, meaning): (u32, &'static str),
    mend: &'static str,
) -> Result<([usize; N], Vec<u8>), DataError> {
    let mut file = Input::open(path, mend)?;
    let header_bytes = 4 * (1 + N as u64);
    let header = file.read_at_most(header_bytes)?;
    let words: Vec<u32> = header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    let wrong_length = |expected, found| DataError::WrongLength { path: path.to_owned(), expected, found, mend };

    if let Some(&found) = words.first().filter(|&&found| found != magic) {
        return Err(DataError::WrongMagic { path: path.to_owned(), expected: magic, meaning, found, mend });
    }
    let Some(Ok(lengths)) = words.get(1..).map(<[u32; N]>::try_from) else {
        return Err(wrong_length(header_bytes, header.len() as u64));
    };
    let product = lengths.iter().try_fold(1_u64, |product, &length| product.checked_mul(length.into()));
    let expected = product.unwrap_or(u64::MAX - header_bytes - 1);
    // One byte more than expected tells a file that goes on. Memory grows with what is read, so no header, however wrong,
    // makes us ask for more than the file has.
    let bytes = file.read_at_most(expected + 1)?;
    if bytes.len() as u64 != expected {
        return Err(wrong_length(header_bytes + expected, header_bytes + bytes.len() as u64));
    }
    Ok((lengths.map(|length| length as usize), bytes))
}

/// A file that is being read, decompressed if it begins with gzip's two bytes, whatever its name.
struct Input<'a> {
    path: &'a Path,
    mend: &'static str,
    reader: Box<dyn Read>,
    bytes_read: u64,
}

impl<'a> Input<'a> {
    fn open(path: &'a Path, mend: &'static str) -> Result<Self, DataError> {
        let open = || -> io::Result<Box<dyn Read>> {
            let mut file = BufReader::new(File::open(path)?);
            let compressed = file.fill_buf()?.starts_with(&[0x1F, 0x8B]);
            Ok(if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
        };
        let reader = open().map_err(|error| DataError::Io { path: path.to_owned(), doing: "opening", error, mend })?;
        Ok(Self { path, mend, reader, bytes_read: 0 })
    }

    /// Up to `limit` bytes; fewer if the file ends.
    fn read_at_most(&mut self, limit: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let result = self.reader.by_ref().take(limit).read_to_end(&mut bytes);
        self.bytes_read += bytes.len() as u64;
        let (path, mend) = (self.path.to_owned(), self.mend);
        match result {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(DataError::TruncatedStream { path, found: self.bytes_read, mend })
            }
            Err(error) => Err(DataError::Io { path, doing: "reading", error, mend }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write;

    pub(in super::super) fn encode(dimensions: &[usize], bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|&length| out.extend((length as u32).to_be_bytes()));
        out.extend(bytes);
        out
    }

    pub(in super::super) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn images() -> impl Strategy<Value = IdxImages> {
        (1_usize..5, 1_usize..5, 1_usize..5).prop_flat_map(|(count, rows, columns)| {
            prop::collection::vec(any::<u8>(), count * rows * columns).prop_map(move |pixels| IdxImages {
                count,
                rows,
                columns,
                pixels,
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn images_survive_the_round_trip(images in images(), compressed: bool) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let plain = encode(&[images.count, images.rows, images.columns], &images.pixels);
            fs::write(file.path(), if compressed { gzip(&plain) } else { plain }).unwrap();
            prop_assert_eq!(read_images(file.path(), "").unwrap(), images);
        }

        #[test]
        fn any_truncation_is_an_error(images in images(), compressed: bool, cut in 0.0..1.0) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let plain = encode(&[images.count, images.rows, images.columns], &images.pixels);
            let whole = if compressed { gzip(&plain) } else { plain };
            fs::write(file.path(), &whole[..(cut * whole.len() as f64) as usize]).unwrap();
            let error = read_images(file.path(), "").unwrap_err();
            prop_assert!(matches!(error, DataError::WrongLength { .. } | DataError::TruncatedStream { .. }), "{}", error);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), valid_magic: bool) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let bytes = if valid_magic { [&[0, 0, 8, 3][..], &bytes].concat() } else { bytes };
            fs::write(file.path(), bytes).unwrap();
            let _ = read_images(file.path(), "");
            let _ = read_labels(file.path(), "");
        }
    }

    #[test]
    fn errors_name_the_file_and_tell_what_came() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let message = |bytes: &[u8]| {
            fs::write(path, bytes).unwrap();
            let message = read_images(path, "fetch it again").unwrap_err().to_string();
            message.strip_prefix(path.to_str().unwrap()).unwrap().to_owned()
        };
        assert_eq!(
            message(&encode(&[2, 2, 2], &[0; 7])),
            ": expected 24 bytes, found 23 (the file is truncated). Mend: fetch it again"
        );
        assert_eq!(
            message(&encode(&[2, 2, 2], &[0; 9])),
            ": expected 24 bytes, found 25 (something follows the data). Mend: fetch it again"
        );
        assert_eq!(
            message(&encode(&[8], &[0; 8])),
            ": expected magic number 0x00000803 (IDX, bytes in three dimensions), found 0x00000801. Mend: fetch it again"
        );
        assert_eq!(
            message(&encode(&[0, 28, 28], &[])),
            ": expected at least one image of at least one pixel, found 0 images of 28 x 28. Mend: fetch it again"
        );
        assert!(message(&encode(&[u32::MAX as usize; 3], &[0; 9])).contains("truncated"));
        let compressed = gzip(&encode(&[2, 2, 2], &[0; 8]));
        assert_eq!(
            message(&compressed[..compressed.len() - 1]),
            ": expected a whole gzip stream, found that it ends early, after 24 bytes of data (the file is truncated). \
             Mend: fetch it again"
        );
    }

    #[test]
    fn a_damaged_gzip_stream_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = gzip(&encode(&[8], &[7; 8]));
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        fs::write(file.path(), bytes).unwrap();
        assert!(matches!(read_labels(file.path(), "").unwrap_err(), DataError::Io { doing: "reading", .. }));
    }
}
