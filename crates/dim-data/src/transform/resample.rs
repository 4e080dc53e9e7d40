//! Resizing with antialiasing, bit for bit as the Python Imaging Library (Pillow, to version 12) does it.
//!
//! Published models of this field were trained and are evaluated on images that Pillow resized, so the same file must give
//! the same bytes here. That fixes what would otherwise be details: filter weights are quantised to 22 fractional bits,
//! rows are resized first, and the result of that pass is rounded to bytes before columns are resized. (Pillow 13 resizes
//! columns first where the height shrinks much more than the width, which changes some bytes; the published models are
//! older.)

use std::ops::Range;

use crate::source::MAX_SIZE;
use crate::{DataError, Image};

/// A separable resampling filter. When shrinking it is widened by the scale, so that every source pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Average over the source area of a pixel.
    Box,
    /// Cubic convolution with a = -0.5 (Keys, 1981; Catmull-Rom).
    Bicubic,
}

impl Filter {
    /// Half the filter's width, in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bicubic => match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            },
        }
    }
}

/// An image resized to `width` x `height` pixels.
///
/// # Errors
///
/// [`DataError::Argument`] if a side is 0 or above 16384.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Image, DataError> {
    if width.max(height) > MAX_SIZE || width.min(height) == 0 {
        return Err(DataError::Argument {
            name: "image size",
            expected: "from 1 to 16384 pixels",
            found: format!("{width} x {height}"),
        });
    }
    resize_window(image, &Window::whole(width), &Window::whole(height), filter)
}

/// One side of a resized image, of which only a range of pixels is wanted.
pub(super) struct Window {
    /// The side of the whole resized image.
    pub(super) full: usize,
    /// The pixels wanted; not empty and within `full`.
    pub(super) kept: Range<usize>,
}

impl Window {
    /// All of a side.
    pub(super) fn whole(full: usize) -> Self {
        Self { full, kept: 0..full }
    }
}

/// The window of the image resized to `columns.full` x `rows.full`: the same bytes as resizing all of it and cutting, but
/// without computing what is cut away, which for a long and narrow image is nearly everything.
pub(super) fn resize_window(
    image: &Image,
    columns: &Window,
    rows: &Window,
    filter: Filter,
) -> Result<Image, DataError> {
    let column_taps = taps(image.width(), columns, filter);
    let row_taps = taps(image.height(), rows, filter);
    // Only the rows that some output row reads are resized.
    let first = row_taps.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end = row_taps.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);
    let stride = image.width() * image.channels();
    let source = &image.pixels()[first * stride..end * stride];
    let narrow = match image.channels() {
        1 => resize_rows::<1>(source, image.width(), &column_taps),
        _ => resize_rows::<3>(source, image.width(), &column_taps),
    };
    let pixels = resize_columns(&narrow, columns.kept.len() * image.channels(), first, &row_taps);
    Image::new(columns.kept.len(), rows.kept.len(), image.channels(), pixels)
}

/// Fractional bits of a weight: 32, less 8 for the pixel, less 2 for the overshoot of a filter with negative lobes.
const WEIGHT_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// The source pixels that make one output pixel, and their weights in units of 2^-22.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(source: usize, window: &Window, filter: Filter) -> Vec<Taps> {
    if source == window.full {
        // An unchanged side is copied, not filtered; a single weight of one does just that.
        return window.kept.clone().map(|first| Taps { first, weights: vec![1 << WEIGHT_BITS] }).collect();
    }
    let scale = source as f64 / window.full as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    window
        .kept
        .clone()
        .map(|out| {
            let centre = (out as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            let weights: Vec<f64> =
                (first..end).map(|x| filter.weight((x as f64 - centre + 0.5) * filter_scale.recip())).collect();
            let sum: f64 = weights.iter().sum();
            let quantise = |weight: f64| {
                let share = if sum == 0.0 { weight } else { weight / sum };
                let scaled = share * f64::from(1 << WEIGHT_BITS);
                (scaled + 0.5_f64.copysign(scaled)) as i32 // rounds half away from zero
            };
            Taps { first, weights: weights.into_iter().map(quantise).collect() }
        })
        .collect()
}

fn to_byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// Resizes every row of `source` (`width` pixels of `C` channels each).
fn resize_rows<const C: usize>(source: &[u8], width: usize, columns: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(source.len() / width * columns.len());
    for row in source.chunks_exact(width * C) {
        for taps in columns {
            let mut sums = [HALF; C];
            let pixels = row[taps.first * C..].chunks_exact(C);
            for (pixel, &weight) in pixels.zip(&taps.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sums.map(to_byte));
        }
    }
    out
}

/// Resizes every column of `source`, whose rows are `stride` bytes long and begin with row `first` of the image.
fn resize_columns(source: &[u8], stride: usize, first: usize, rows: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * stride);
    let mut sums = vec![HALF; stride];
    for taps in rows {
        sums.fill(HALF);
        let source_rows = source[(taps.first - first) * stride..].chunks_exact(stride);
        for (row, &weight) in source_rows.zip(&taps.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().copied().map(to_byte));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn row(pixels: &[u8]) -> Image {
        Image::new(pixels.len(), 1, 1, pixels.to_vec()).unwrap()
    }

    #[test]
    fn bicubic_shrinking_matches_weights_worked_out_by_hand() {
        // 3 -> 2 pixels: the first centre lies at 0.75 and the filter is widened by 1.5, so the three pixels stand at
        // distances 1/6, 1/2 and 7/6 and weigh 0.9375, 0.5625 and -0.0578704: 0.650080, 0.390048, -0.040128 after division.
        for (pixels, expected) in
            [([255, 0, 0], [166, 0]), ([0, 200, 0], [78, 78]), ([0, 0, 255], [0, 166]), ([255, 255, 0], [255, 89])]
        {
            let out = resize(&row(&pixels), 2, 1, Filter::Bicubic).unwrap();
            assert_eq!(out.pixels(), expected, "{pixels:?}");
        }
    }

    #[test]
    fn bicubic_growing_matches_weights_worked_out_by_hand() {
        // 2 -> 4 pixels: centres at 0.25, 0.75, 1.25, 1.75. At 0.25 the pixels stand at distances 0.25 and 1.25 and weigh
        // 0.8671875 and -0.0703125, hence 1.0882353 and -0.0882353; at 0.75 at 0.25 and 0.75: 0.8671875 and 0.2265625,
        // hence 0.7928571 and 0.2071429. So 100, 200 give 91.18, 120.71, 179.29 and 208.82.
        let out = resize(&row(&[100, 200]), 4, 1, Filter::Bicubic).unwrap();
        assert_eq!(out.pixels(), [91, 121, 179, 209]);
    }

    #[test]
    fn box_halving_averages_pairs_and_rounds_half_up() {
        let out = resize(&row(&[0, 1, 10, 20, 255, 254]), 3, 1, Filter::Box).unwrap();
        assert_eq!(out.pixels(), [1, 15, 255]);
    }

    proptest! {
        #[test]
        fn a_constant_image_stays_constant(value: u8, from in 1_usize..40, to in 1_usize..40, cubic: bool) {
            let filter = if cubic { Filter::Bicubic } else { Filter::Box };
            let out = resize(&Image::new(from, 2, 1, vec![value; from * 2]).unwrap(), to, 3, filter).unwrap();
            prop_assert!(out.pixels().iter().all(|&v| v == value));
        }

        #[test]
        fn a_window_is_a_part_of_the_whole(
            pixels in prop::collection::vec(any::<u8>(), 9 * 7 * 3),
            full in (1_usize..30, 1_usize..30), cut in (0.0..1.0, 0.0..1.0), length in (0.0..1.0, 0.0..1.0),
        ) {
            let image = Image::new(9, 7, 3, pixels).unwrap();
            let window = |full: usize, cut: f64, length: f64| {
                let start = (cut * full as f64) as usize;
                Window { full, kept: start..start + 1 + (length * (full - start - 1) as f64) as usize }
            };
            let (columns, rows) = (window(full.0, cut.0, length.0), window(full.1, cut.1, length.1));
            let whole = resize(&image, full.0, full.1, Filter::Bicubic).unwrap();
            let part = resize_window(&image, &columns, &rows, Filter::Bicubic).unwrap();
            let expected: Vec<u8> = rows.kept.clone()
                .flat_map(|y| whole.pixels()[(y * full.0 + columns.kept.start) * 3..][..columns.kept.len() * 3].to_vec())
                .collect();
            prop_assert_eq!(part.pixels(), expected);
        }

        #[test]
        fn the_same_size_is_a_copy(pixels in prop::collection::vec(any::<u8>(), 5 * 4)) {
            let image = Image::new(5, 4, 1, pixels).unwrap();
            prop_assert_eq!(resize(&image, 5, 4, Filter::Bicubic).unwrap(), image);
        }
    }

    #[test]
    fn sides_of_zero_or_absurd_length_are_refused() {
        for (width, height) in [(0, 1), (1, 0), (16_385, 1)] {
            assert!(matches!(resize(&row(&[1]), width, height, Filter::Box), Err(DataError::Argument { .. })));
        }
    }
}
