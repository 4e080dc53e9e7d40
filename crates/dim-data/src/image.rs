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

    /// The part of `height` x `width` pixels whose top left corner is at (`row`, `column`).
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] for a part that is empty or not within the image.
    pub fn cut(&self, row: usize, column: usize, height: usize, width: usize) -> Result<Self, DataError> {
        let within =
            |start: usize, length: usize, whole: usize| start.checked_add(length).is_some_and(|end| end <= whole);
        if !within(row, height, self.height) || !within(column, width, self.width) {
            return Err(DataError::Argument {
                name: "part",
                expected: "within the image",
                found: format!("{height} x {width} at ({row}, {column}) of {} x {}", self.height, self.width),
            });
        }
        let rows = self.pixels.chunks_exact(self.width * self.channels).skip(row).take(height);
        let pixels = rows.flat_map(|pixels| &pixels[column * self.channels..(column + width) * self.channels]);
        Self::new(width, height, self.channels, pixels.copied().collect())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_part_has_the_pixels_of_its_place() {
        let image = Image::new(4, 3, 3, (0..36).collect()).unwrap();
        let part = image.cut(1, 2, 2, 2).unwrap();
        assert_eq!((part.width(), part.height()), (2, 2));
        assert_eq!(part.pixels(), [18, 19, 20, 21, 22, 23, 30, 31, 32, 33, 34, 35]);
        assert_eq!(image.cut(0, 0, 3, 4).unwrap(), image);
        for (row, column, height, width) in [(2, 0, 2, 1), (0, 3, 1, 2), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
            assert!(image.cut(row, column, height, width).is_err());
        }
    }
}
