//! The square that a network is shown of an image of any shape.

use std::borrow::Cow;

use super::resample::{Filter, Window, resize_window};
use crate::source::check_size;
use crate::{DataError, Image};

/// The largest centred square of an image, as `size` x `size` pixels.
///
/// As in ADM (Dhariwal and Nichol, arXiv 2105.05233), whose preprocessing of ImageNet DiT, U-ViT and DiM share: the image
/// is halved with a box filter while its shorter side is at least `2 * size`, then resized bicubically until that side is
/// `size`, then cut in the middle. An image smaller than `size` is enlarged by the same bicubic step (28 to 32 pixels for
/// Fashion-MNIST, say).
///
/// # Errors
///
/// [`DataError::Argument`] if `size` is 0 or above 16384.
pub fn centre_crop(image: &Image, size: usize) -> Result<Image, DataError> {
    check_size(size)?;
    let mut current = Cow::Borrowed(image);
    while current.width().min(current.height()) >= 2 * size {
        let (columns, rows) = (Window::whole(current.width() / 2), Window::whole(current.height() / 2));
        current = Cow::Owned(resize_window(&current, &columns, &rows, Filter::Box)?);
    }
    let scale = size as f64 / current.width().min(current.height()) as f64;
    let window = |side: usize| {
        // Ties go to the even number, as in Python's `round`.
        let full = (side as f64 * scale).round_ties_even() as usize;
        let start = (full - size) / 2;
        Window { full, kept: start..start + size }
    };
    resize_window(&current, &window(current.width()), &window(current.height()), Filter::Bicubic)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// An image whose pixel (row, column) is `f(row, column)`.
    fn image(width: usize, height: usize, f: impl Fn(usize, usize) -> u8) -> Image {
        let pixels = (0..width * height).map(|i| f(i / width, i % width)).collect();
        Image::new(width, height, 1, pixels).unwrap()
    }

    #[test]
    fn an_image_of_twice_the_size_is_box_halved() {
        let crop = centre_crop(&image(4, 4, |row, column| (row * 40 + column * 10) as u8), 2).unwrap();
        // Blocks of four: (0 + 10 + 40 + 50) / 4 and so on.
        assert_eq!(crop.pixels(), [25, 45, 105, 125]);
    }

    #[test]
    fn a_wide_image_loses_as_much_left_as_right() {
        // 7 x 3 at size 3: nothing is resized, columns 2, 3, 4 remain.
        let crop = centre_crop(&image(7, 3, |row, column| (row * 10 + column) as u8), 3).unwrap();
        assert_eq!(crop.pixels(), [2, 3, 4, 12, 13, 14, 22, 23, 24]);
        // 6 x 3: three columns too many; the odd one is lost on the right.
        let crop = centre_crop(&image(6, 3, |_, column| column as u8), 3).unwrap();
        assert_eq!(crop.pixels(), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
        let crop = centre_crop(&image(3, 6, |row, _| row as u8), 3).unwrap();
        assert_eq!(crop.pixels(), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn halving_stops_below_twice_the_size() {
        // 7 -> 3 (box) at size 2, where 3 < 4; then 3 -> 2 (bicubic, weights 0.650080, 0.390048, -0.040128). The box at
        // 7 -> 3 has scale 2.333 and centres 1.1667, 3.5, 5.8333, so it averages pixels {0, 1}, {2, 3, 4} and {5, 6}.
        let crop = centre_crop(&image(7, 7, |_, column| [0, 0, 30, 60, 90, 200, 220][column]), 2).unwrap();
        let (left, right) = (0.390_048 * 60.0 - 0.040_128 * 210.0_f64, 0.650_080 * 210.0 + 0.390_048 * 60.0_f64);
        assert_eq!(crop.pixels(), [left, right, left, right].map(|v| v.round() as u8));
    }

    #[test]
    fn size_zero_is_refused() {
        let error = centre_crop(&image(2, 2, |_, _| 0), 0).unwrap_err();
        assert_eq!(error.to_string(), "image size must be from 1 to 16384 pixels, not 0");
    }

    proptest! {
        #[test]
        fn every_shape_gives_the_asked_square(width in 1_usize..200, height in 1_usize..200, size in 1_usize..40, value: u8) {
            let crop = centre_crop(&image(width, height, |_, _| value), size).unwrap();
            prop_assert_eq!((crop.width(), crop.height()), (size, size));
            prop_assert!(crop.pixels().iter().all(|&v| v == value));
        }

        #[test]
        fn a_mirrored_image_gives_the_mirrored_square(
            pixels in prop::collection::vec(any::<u8>(), 24 * 24), size in 1_usize..40,
        ) {
            let plain = centre_crop(&image(24, 24, |row, column| pixels[row * 24 + column]), size).unwrap();
            let mirrored = centre_crop(&image(24, 24, |row, column| pixels[row * 24 + 23 - column]), size).unwrap();
            for (a, b) in plain.pixels().chunks(size).zip(mirrored.pixels().chunks(size)) {
                // One unit apart at most: a tap at the very edge of a filter may be rounded to either side.
                prop_assert!(a.iter().zip(b.iter().rev()).all(|(a, b)| a.abs_diff(*b) <= 2));
            }
        }
    }

    #[test]
    fn a_long_and_narrow_image_needs_little_memory() {
        let crop = centre_crop(&image(60_000, 2, |_, column| u8::from(column >= 30_000) * 255), 64).unwrap();
        assert_eq!((crop.pixels()[0], crop.pixels()[63]), (0, 255));
    }
}
