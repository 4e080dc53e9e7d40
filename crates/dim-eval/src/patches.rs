//! Where the patches of a large image lie.
//!
//! A feature extractor sees 224 or 299 pixels; of an image of 1024 shrunk to that, nothing remains of what only the full resolution has.
//! The patch-wise Fréchet distance compares patches of a fixed size, cut at full resolution, instead of whole images: Chai et al. 2022,
//! "Any-resolution Training for High-resolution Image Synthesis" (arXiv 2204.07156), section 4, which cuts patches at random places;
//! here they lie on a grid that covers the image, so that the number is a function of the images alone.

use crate::EvalError;

/// Squares of `size` pixels at every `stride` pixels, and flush with the far edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchGrid {
    size: usize,
    stride: usize,
}

impl PatchGrid {
    /// Patches of `size` × `size` pixels, `stride` apart.
    ///
    /// # Errors
    /// [`EvalError::Argument`] for a size or a stride of 0, and a stride above the size, which would leave pixels out.
    pub fn new(size: usize, stride: usize) -> Result<Self, EvalError> {
        let wrong = |argument, expected: String, got: usize| {
            Err(EvalError::Argument { argument, expected, got: got.to_string() })
        };
        if size == 0 {
            return wrong("the size of patches", "at least 1 pixel".into(), size);
        }
        if !(1..=size).contains(&stride) {
            return wrong("the stride of patches", format!("from 1 to their size, {size}"), stride);
        }
        Ok(Self { size, stride })
    }

    /// Side of a patch in pixels.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Pixels between the corners of neighbours.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Top left corners, (row, column), of the patches of an image: row by row, every `stride` pixels, the last flush with the far edge.
    ///
    /// # Errors
    /// [`EvalError::Argument`] for an image smaller than a patch.
    pub fn corners(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, EvalError> {
        if height.min(width) < self.size {
            let expected = format!("at least as large as a patch, {0} x {0}", self.size);
            return Err(EvalError::Argument { argument: "an image", expected, got: format!("{height} x {width}") });
        }
        let columns = self.starts(width);
        Ok(self.starts(height).into_iter().flat_map(|row| columns.iter().map(move |&column| (row, column))).collect())
    }

    fn starts(&self, length: usize) -> Vec<usize> {
        let last = length - self.size;
        let regular = (0..last).step_by(self.stride);
        regular.chain([last]).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_grid_that_fits_is_regular_and_one_that_does_not_ends_flush() {
        let starts = |size, stride, length| PatchGrid::new(size, stride).unwrap().starts(length);
        assert_eq!(starts(4, 4, 12), [0, 4, 8]);
        assert_eq!(starts(4, 3, 12), [0, 3, 6, 8]);
        assert_eq!(starts(4, 2, 4), [0]);
    }

    #[test]
    fn what_leaves_pixels_out_is_refused() {
        for (size, stride) in [(0, 1), (4, 0), (4, 5)] {
            assert!(PatchGrid::new(size, stride).is_err());
        }
        let error = PatchGrid::new(4, 4).unwrap().corners(3, 9).unwrap_err().to_string();
        assert!(error.contains("4 x 4, got 3 x 9"), "{error}");
    }

    proptest! {
        #[test]
        fn every_pixel_is_in_some_patch_and_no_patch_sticks_out(
            size in 1usize..9, stride in 1usize..9, height in 1usize..30, width in 1usize..30,
        ) {
            prop_assume!(stride <= size && size <= height.min(width));
            let corners = PatchGrid::new(size, stride).unwrap().corners(height, width).unwrap();
            let mut seen = vec![false; height * width];
            for (top, left) in &corners {
                for row in *top..top + size {
                    for column in *left..left + size {
                        prop_assert!(row < height && column < width);
                        seen[row * width + column] = true;
                    }
                }
            }
            prop_assert!(seen.iter().all(|&seen| seen));
            let mut distinct = corners.clone();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), corners.len());
        }
    }
}
