//! Networks whose features stand for what is in an image.

mod efficientnet_lite0;

pub use efficientnet_lite0::{EfficientNetLite0, STAGES};

use tch::Tensor;

use crate::EvalError;

/// A network that turns an image into a fixed number of features.
pub trait FeatureExtractor {
    /// Its name, as reports write it: distances of different extractors do not compare.
    fn name(&self) -> &'static str;

    /// Side in pixels of the images it is to be shown: that of its own training.
    fn input_size(&self) -> usize;

    /// Number of features.
    fn dimension(&self) -> usize;

    /// Features, `[image, feature]` f32, of `images`, `[image, 3, row, column]` RGB in [-1, 1] of the input's size.
    ///
    /// # Errors
    /// Images of another shape; no memory.
    fn features(&self, images: &Tensor) -> Result<Tensor, EvalError>;
}
