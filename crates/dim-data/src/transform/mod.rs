//! From an image of any size to the network's input: square crop, flip, channels, range.

mod crop;
mod resample;

pub use crop::centre_crop;
pub use resample::{Filter, resize};

use crate::mix::absorb;
use crate::{DataError, Image};

/// Separates the hashes of the flips from those of other uses of the same seed.
const FLIP_DOMAIN: u64 = 0x666C_6970_0000_0001;

/// Whether the image shown after `images_seen` others is mirrored left to right: a fair coin, fixed by its arguments.
#[must_use]
pub fn is_mirrored(seed: u64, images_seen: u64) -> bool {
    absorb(absorb(FLIP_DOMAIN, seed), images_seen) & 1 == 1
}

/// Grey repeated in three channels; an image that has three already is returned as it is.
///
/// # Errors
///
/// None for images made by this crate.
pub fn to_rgb(image: Image) -> Result<Image, DataError> {
    if image.channels() == 3 {
        return Ok(image);
    }
    let pixels = image.pixels().iter().flat_map(|&grey| [grey; 3]).collect();
    Image::new(image.width(), image.height(), 3, pixels)
}

/// Writes an image as the network reads it: `[channel, row, column]`, f32, `value / 127.5 - 1`, optionally mirrored left
/// to right.
///
/// # Errors
///
/// [`DataError::Argument`] if `out` does not have `channels * height * width` elements.
pub fn write_normalised(image: &Image, mirrored: bool, out: &mut [f32]) -> Result<(), DataError> {
    let (width, channels) = (image.width(), image.channels());
    if out.len() != image.pixels().len() {
        return Err(DataError::Argument {
            name: "out",
            expected: "channels * height * width elements",
            found: format!("{} for {} x {} x {channels}", out.len(), image.height(), width),
        });
    }
    match channels {
        1 => write_planes::<1>(image, mirrored, out),
        _ => write_planes::<3>(image, mirrored, out),
    }
    Ok(())
}

/// The loop of [`write_normalised`] for a number of channels that the compiler knows, which makes it three times as fast.
fn write_planes<const C: usize>(image: &Image, mirrored: bool, out: &mut [f32]) {
    let width = image.width();
    for (channel, plane) in out.chunks_exact_mut(width * image.height()).enumerate() {
        for (row, pixels) in plane.chunks_exact_mut(width).zip(image.pixels().chunks_exact(width * C)) {
            for (out, pixel) in row.iter_mut().zip(pixels.chunks_exact(C)) {
                *out = normalised(pixel[channel]);
            }
            if mirrored {
                row.reverse(); // cheaper than writing backwards, which the compiler does not vectorise
            }
        }
    }
}

/// A byte mapped to [-1, 1].
#[inline]
fn normalised(value: u8) -> f32 {
    f32::from(value) / 127.5 - 1.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normalised_image_is_planar_and_mirrored_on_demand() {
        let image = Image::new(2, 1, 3, vec![0, 51, 102, 153, 204, 255]).unwrap();
        let mut out = [0.0; 6];
        write_normalised(&image, false, &mut out).unwrap();
        assert_eq!(out.map(|v| ((v + 1.0) * 127.5).round() as u8), [0, 153, 51, 204, 102, 255]);
        assert_eq!((out[0], out[5]), (-1.0, 1.0));
        write_normalised(&image, true, &mut out).unwrap();
        assert_eq!(out.map(|v| ((v + 1.0) * 127.5).round() as u8), [153, 0, 204, 51, 255, 102]);
        assert!(write_normalised(&image, true, &mut out[1..]).is_err());
    }

    #[test]
    fn flips_are_a_fair_coin() {
        let flips = (0..100_000).filter(|&seen| is_mirrored(5, seen)).count();
        assert!((49_000..51_000).contains(&flips), "{flips} of 100000"); // six standard deviations
    }

    proptest! {
        #[test]
        fn every_byte_survives_normalisation(bytes in prop::collection::vec(any::<u8>(), 12)) {
            let image = Image::new(2, 2, 3, bytes.clone()).unwrap();
            let mut out = [0.0; 12];
            write_normalised(&image, false, &mut out).unwrap();
            prop_assert!(out.iter().all(|v| (-1.0..=1.0).contains(v)));
            for (i, byte) in bytes.into_iter().enumerate() {
                prop_assert_eq!(((out[(i % 3) * 4 + i / 3] + 1.0) * 127.5).round() as u8, byte);
            }
        }

        #[test]
        fn grey_becomes_three_equal_channels(bytes in prop::collection::vec(any::<u8>(), 6)) {
            let rgb = to_rgb(Image::new(3, 2, 1, bytes.clone()).unwrap()).unwrap();
            prop_assert!(rgb.pixels().chunks(3).zip(&bytes).all(|(p, g)| p == [*g; 3]));
            prop_assert_eq!(to_rgb(rgb.clone()).unwrap(), rgb);
        }
    }
}
