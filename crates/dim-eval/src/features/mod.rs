//! Networks whose features stand for what is in an image.

mod dinov2;
mod efficientnet_lite;
mod folded;
mod inception;

pub(crate) use dinov2::normalised_as_imagenet;
pub use dinov2::{Dinov2, Dinov2Layout, FeedForward};
pub(crate) use efficientnet_lite::as_published;
pub use efficientnet_lite::{EfficientNetLite, LiteSize, STAGES};
pub use inception::{Inception, Preprocessing};

use tch::Tensor;

use crate::EvalError;

/// How images must come to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Resized, each side by itself, to so many pixels by Pillow's antialiased bicubic filter, and rounded to bytes.
    Resized(usize),
    /// As they are: the network's own resizing is part of what is published, and runs where the network does.
    AnySize,
}

/// What a network sees in some images.
#[derive(Debug)]
pub struct Seen {
    /// `[image, feature]`, f32.
    pub features: Tensor,
    /// Features that know where they are, for sFID: `[image, feature]`, f32.
    pub spatial: Option<Tensor>,
    /// Scores of classes before the softmax, for the inception score: `[image, class]`, f32.
    pub logits: Option<Tensor>,
}

/// A network that turns an image into a fixed number of features.
pub trait FeatureExtractor {
    /// Its name, as reports write it: distances of different extractors do not compare.
    fn name(&self) -> &'static str;

    /// How images must come to it.
    fn input(&self) -> Input;

    /// What is done to images before it, in a few words: distances with different resizing do not compare either.
    fn preprocessing(&self) -> &'static str;

    /// Number of features.
    fn dimension(&self) -> usize;

    /// Number of features that know where they are; `None` if it has none.
    fn spatial_dimension(&self) -> Option<usize> {
        None
    }

    /// Number of classes that it scores for the inception score; `None` if it does not.
    fn classes(&self) -> Option<usize> {
        None
    }

    /// What the network reads of `pixels`, `[image, 3, row, column]` RGB, f32, whole numbers from 0 to 255, as [`input`](Self::input) has
    /// them: `[image, 3, row, column]` of one size for all images.
    ///
    /// # Errors
    /// Images of another shape; no memory.
    fn prepare(&self, pixels: &Tensor) -> Result<Tensor, EvalError>;

    /// What it sees in images that were [prepared](Self::prepare).
    ///
    /// # Errors
    /// No memory.
    fn see(&self, prepared: &Tensor) -> Result<Seen, EvalError>;
}

/// Refuses images that are not `side` pixels high and wide.
fn refuse_other_sizes(images: &Tensor, side: usize) -> Result<(), EvalError> {
    if images.size().get(2..) == Some(&[side as i64; 2][..]) {
        return Ok(());
    }
    let expected = format!("[image, 3, {side}, {side}]: resize them first");
    Err(EvalError::Argument { argument: "images", expected, got: format!("{:?}", images.size()) })
}

/// Refuses what is no batch of RGB images.
fn refuse_other_channels(images: &Tensor) -> Result<(), EvalError> {
    match images.size()[..] {
        [_, 3, rows, columns] if rows > 0 && columns > 0 => Ok(()),
        _ => {
            let (expected, got) = ("[image, 3, row, column]".to_owned(), format!("{:?}", images.size()));
            Err(EvalError::Argument { argument: "images", expected, got })
        }
    }
}
