//! An image as sources give it, before any arithmetic.

use crate::DataError;

/// An 8-bit image: row-major, channels interleaved, 1 (grey) or 3 (red, green, blue) channels, no alpha.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// Wraps pixels in the layout `[row, column, channel]`.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if a side is 0, `channels` is neither 1 nor 3, or the number of bytes is not
    /// `width * height * channels`.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self, DataError> {
        if width == 0 || height == 0 {
            return Err(DataError::Argument {
                name: "image size",
                expected: "at least 1 x 1",
                found: format!("{width} x {height}"),
            });
        }
        if channels != 1 && channels != 3 {
            return Err(DataError::Argument { name: "channels", expected: "1 or 3", found: channels.to_string() });
        }
        let expected = width.checked_mul(height).and_then(|area| area.checked_mul(channels));
        if expected != Some(pixels.len()) {
            return Err(DataError::Argument {
                name: "pixels",
                expected: "width * height * channels bytes",
                found: format!("{} bytes for {width} x {height} x {channels}", pixels.len()),
            });
        }
        Ok(Self { width, height, channels, pixels })
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 (grey) or 3 (red, green, blue).
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The bytes, `[row, column, channel]`.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// An image and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The image.
    pub image: Image,
    /// Its class: an index into [`ImageSource::classes`](crate::ImageSource::classes).
    pub class: usize,
}
