//! What the loader asks of its data, and what a collection of images gives.

use std::sync::Arc;

use crate::transform::write_normalised;
use crate::{DataError, Sample};

/// A finite, indexed collection of training examples as arrays of floats: images, or what an autoencoder makes of them.
///
/// The same index gives the same example, from any thread and in any order.
pub trait Source: Send + Sync {
    /// Number of examples; at least 1.
    fn len(&self) -> usize;

    /// Whether there are none, which no source of this crate allows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes.
    fn classes(&self) -> &[String];

    /// Channels of every example: those of the image, or twice those of the latent (means, then logarithms of variances).
    fn channels(&self) -> usize;

    /// Whether every example has its mirror image.
    fn can_mirror(&self) -> bool {
        true
    }

    /// A number that is another one when the data are others, where they tell.
    fn fingerprint(&self) -> Option<u32> {
        None
    }

    /// What to call example `index` in a message.
    fn name(&self, index: usize) -> String;

    /// Writes example `index`, or its mirror image, to `out`, `[channel, row, column]` with `size` rows and columns, and returns
    /// its class. After an error `out` may hold anything.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if an argument is out of range, [`DataError::BrokenImage`] or [`DataError::BrokenRecord`] if the
    /// example cannot be read.
    fn write(&self, index: usize, size: usize, mirrored: bool, out: &mut [f32]) -> Result<usize, DataError>;

    /// What opening the source found worth telling the user, one sentence each.
    fn notes(&self) -> &[String] {
        &[]
    }
}

/// Images as the network reads them: centre crop, values in [-1, 1].
pub struct Pixels(
    /// Where they come from.
    pub Arc<dyn ImageSource>,
);

impl Source for Pixels {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn classes(&self) -> &[String] {
        self.0.classes()
    }

    fn channels(&self) -> usize {
        self.0.channels()
    }

    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }

    fn write(&self, index: usize, size: usize, mirrored: bool, out: &mut [f32]) -> Result<usize, DataError> {
        let sample = self.0.load(index, size)?;
        let found = (sample.image.width(), sample.image.height(), sample.image.channels());
        let expected = (size, size, self.0.channels());
        if found != expected {
            let reason = format!("expected an image of {expected:?}, found {found:?}");
            return Err(DataError::BrokenImage { path: self.0.name(index).into(), reason });
        }
        write_normalised(&sample.image, mirrored, out).map(|()| sample.class)
    }

    fn notes(&self) -> &[String] {
        self.0.notes()
    }
}

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
