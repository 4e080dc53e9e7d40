//! What the loader asks of a source of images.

use crate::{DataError, Sample};

/// A finite, indexed collection of images with classes.
///
/// The same index gives the same image, from any thread and in any order.
pub trait ImageSource: Send + Sync {
    /// Number of images; at least 1.
    fn len(&self) -> usize;

    /// Whether there are no images, which no source of this crate allows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes; [`Sample::class`] indexes them.
    fn classes(&self) -> &[String];

    /// Channels of every image: 1 or 3.
    fn channels(&self) -> usize;

    /// What to call image `index` in a message: its path, or its file and place in it.
    fn name(&self, index: usize) -> String;

    /// Image `index` as a square of `size` x `size` pixels, and its class.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if `index` or `size` is out of range, [`DataError::BrokenImage`] if the file cannot be
    /// read or decoded.
    fn load(&self, index: usize, size: usize) -> Result<Sample, DataError>;

    /// What opening the source found worth telling the user, one sentence each.
    fn notes(&self) -> &[String] {
        &[]
    }
}

/// Largest side of an image in pixels; a larger one is taken for a slip of the pen.
pub(crate) const MAX_SIZE: usize = 16_384;

/// Checks a square side length in pixels.
pub(crate) fn check_size(size: usize) -> Result<(), DataError> {
    if (1..=MAX_SIZE).contains(&size) {
        return Ok(());
    }
    Err(DataError::Argument { name: "image size", expected: "from 1 to 16384 pixels", found: size.to_string() })
}

/// Checks the arguments of [`ImageSource::load`].
pub(crate) fn check_request(index: usize, len: usize, size: usize) -> Result<(), DataError> {
    if index >= len {
        return Err(DataError::Argument {
            name: "index",
            expected: "below the number of images",
            found: format!("{index} of {len}"),
        });
    }
    check_size(size)
}
