//! What the loader hands out.

use crate::BrokenFile;

/// A batch of images as the network reads them.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Images that come before these in the run: those seen when the whole batch began, and those of other parts before.
    pub first: u64,
    /// Side of the square images in pixels, or of latents.
    pub size: usize,
    /// Channels of the images, 1 or 3; of latents, means and logarithms of variances together.
    pub channels: usize,
    /// Pixels in [-1, 1], or moments of latents, `[image, channel, row, column]`.
    pub images: Vec<f32>,
    /// Class of each image.
    pub classes: Vec<i64>,
    /// Files found broken while this batch was made and in no earlier batch; others stand in for them.
    pub broken: Vec<BrokenFile>,
}

impl Batch {
    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are no images, which the loader never lets happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Pixels of image `index`, `[channel, row, column]`; `None` past the last image.
    #[must_use]
    pub fn image(&self, index: usize) -> Option<&[f32]> {
        self.images.chunks_exact(self.channels * self.size * self.size).nth(index)
    }
}
