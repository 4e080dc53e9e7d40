//! How an image that is too large to be computed at once is cut into tiles, and how they blend.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{ConfigError, ModelError, config_checks::Checks, grid::size};

/// Square tiles that overlap, in pixels of the latent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    /// Side of a tile.
    pub tile: usize,
    /// Least pixels that two neighbours share; over them one fades into the other.
    pub overlap: usize,
}

impl Default for Tiling {
    /// Tiles of 64, those of images of 512 for KL-f8, that share 16.
    fn default() -> Self {
        Self { tile: 64, overlap: 16 }
    }
}

/// Where one tile lies along one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) length: usize,
}

impl Tiling {
    /// Checks both fields.
    ///
    /// # Errors
    /// All problems at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::positive(&[("tile", self.tile)]);
        // More would compute most pixels four times and more.
        checks.require(self.overlap <= self.tile / 2, || {
            format!("`overlap` must be at most half of `tile` = {}, got {}", self.tile, self.overlap)
        });
        checks.into_result()
    }

    /// The tiles along a side of `length`: as few as share `overlap`, at even distances, so that no overlap is much larger
    /// than another; one of the whole length where it fits.
    pub(super) fn spans(&self, length: usize) -> Vec<Span> {
        if length <= self.tile {
            return vec![Span { start: 0, length }];
        }
        let last = length - self.tile;
        let steps = last.div_ceil(self.tile - self.overlap);
        (0..=steps).map(|step| Span { start: last * step / steps, length: self.tile }).collect()
    }
}

/// Weight of each pixel of `spans[index]` along one side: 1, and falling evenly over the overlaps with the neighbours. Those
/// of all tiles add up to 1 at every pixel. `rate` is how many pixels of the image one of `spans` is.
pub(super) fn fade(spans: &[Span], index: usize, rate: usize) -> Vec<f32> {
    let Span { start, length } = spans[index];
    let before = index.checked_sub(1).map_or(0, |previous| spans[previous].start + spans[previous].length - start);
    let after = spans.get(index + 1).map_or(0, |next| start + length - next.start);
    let (length, before, after) = (length * rate, before * rate, after * rate);
    #[allow(clippy::cast_precision_loss)] // far below 2^24
    let ramp = |position: usize, over: usize| if position < over { (position as f32 + 0.5) / over as f32 } else { 1.0 };
    (0..length)
        .map(|position| {
            let (rise, fall) = (ramp(position, before), ramp(length - 1 - position, after));
            // Where a pixel lies in both overlaps, its weight is what the two neighbours leave.
            if rise < 1.0 && fall < 1.0 { rise + fall - 1.0 } else { rise.min(fall) }
        })
        .collect()
}

/// An image that tiles are added to.
pub(super) struct Canvas {
    rows: Vec<Span>,
    columns: Vec<Span>,
    rate: usize,
    image: Option<Tensor>,
}

impl Canvas {
    /// For tiles of an input of `height` × `width` pixels of the latent, each of which is `rate` pixels of the canvas.
    pub(super) fn new(tiling: Tiling, height: usize, width: usize, rate: usize) -> Self {
        Self { rows: tiling.spans(height), columns: tiling.spans(width), rate, image: None }
    }

    /// Fills the canvas with what `compute` makes of each tile: `[batch, channel, row, column]`, `rate` times the tile's size.
    ///
    /// # Errors
    /// Those of `compute`; no memory.
    pub(super) fn fill(
        mut self,
        compute: impl Fn(Span, Span) -> Result<Tensor, ModelError>,
    ) -> Result<Tensor, ModelError> {
        for row in 0..self.rows.len() {
            for column in 0..self.columns.len() {
                let tile = compute(self.rows[row], self.columns[column])?;
                self.add(&tile, row, column)?;
            }
        }
        self.image.ok_or_else(|| ModelError::Input { argument: "tiling", expected: "tiles".into(), got: "none".into() })
    }

    fn add(&mut self, tile: &Tensor, row: usize, column: usize) -> Result<(), ModelError> {
        let on = (Kind::Float, tile.device());
        let weights = |spans: &[Span], index: usize, shape: [i64; 2]| {
            Tensor::from_slice(&fade(spans, index, self.rate)).to_device(on.1).f_view(shape)
        };
        let faded =
            tile.f_mul(&weights(&self.rows, row, [-1, 1])?)?.f_mul(&weights(&self.columns, column, [1, -1])?)?;
        let side = |spans: &[Span]| size(spans.last().map_or(0, |span| span.start + span.length) * self.rate);
        let [batch, channels] = [tile.size()[0], tile.size()[1]];
        let image = match self.image.take() {
            Some(image) => image,
            None => Tensor::f_zeros([batch, channels, side(&self.rows), side(&self.columns)], on)?,
        };
        let (row, column) = (self.rows[row], self.columns[column]);
        let place = |image: &Tensor, dim: i64, span: Span| {
            image.f_narrow(dim, size(span.start * self.rate), size(span.length * self.rate))
        };
        let _ = place(&place(&image, 2, row)?, 3, column)?.f_add_(&faded)?;
        self.image = Some(image);
        Ok(())
    }
}

/// A tile of `x`, `[batch, channel, row, column]`, of which one pixel of the spans is `rate` pixels; a view.
pub(super) fn cut(x: &Tensor, row: Span, column: Span, rate: usize) -> Result<Tensor, ModelError> {
    let cut = |x: &Tensor, dim: i64, span: Span| x.f_narrow(dim, size(span.start * rate), size(span.length * rate));
    Ok(cut(&cut(x, 2, row)?, 3, column)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn weights_add_up_to_one_at_every_pixel(
            tile in 1usize..40, share in 0.0f64..0.5, length in 1usize..200, rate in 1usize..5,
        ) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let tiling = Tiling { tile, overlap: (tile as f64 * share) as usize };
            prop_assert!(tiling.validate().is_ok());
            let spans = tiling.spans(length);
            let mut sum = vec![0.0f32; length * rate];
            for index in 0..spans.len() {
                for (offset, weight) in fade(&spans, index, rate).into_iter().enumerate() {
                    prop_assert!((0.0..=1.0).contains(&weight));
                    sum[spans[index].start * rate + offset] += weight;
                }
            }
            for weight in sum {
                prop_assert!((weight - 1.0).abs() < 1e-5, "{weight}");
            }
            for pair in spans.windows(2) {
                prop_assert!(pair[0].start + pair[0].length >= pair[1].start + tiling.overlap);
            }
        }
    }

    #[test]
    fn settings_that_do_not_tile_are_refused() {
        assert_eq!(Tiling { tile: 0, overlap: 1 }.validate().unwrap_err().problems.len(), 2);
        assert_eq!(Tiling { tile: 8, overlap: 5 }.validate().unwrap_err().problems.len(), 1);
        assert_eq!(Tiling::default().validate(), Ok(()));
    }
}
