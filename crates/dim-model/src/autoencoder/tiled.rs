//! Encoding and decoding tile by tile, for images whose intermediates do not fit in memory.
//!
//! What is computed at the latent's resolution, attention with it, takes little memory and sees the whole image. At finer
//! resolutions tiles are computed one after the other, whose norms have the means and variances of the whole, which were taken
//! before from mosaics of it. The result is near that of the whole image, not equal to it: those are not quite its own, and at
//! a tile's border convolutions meet zeros instead of the neighbour. There one tile fades into the other.

use std::cell::RefCell;

use dim_torch::TorchError;
use tch::Tensor;

use super::{
    Autoencoder, AutoencoderConfig, Moments,
    attention::scores_at_once,
    layout::{Form, Layer, Layout},
    norms::{Groups, Norms, Sums},
    tiling::{Canvas, Tiling, cut},
};
use crate::{
    ModelError,
    grid::{Grid, grid_of},
    observer::Observer,
};

/// Bytes of an f32.
const F32: u64 = 4;
/// Intermediates of a residual block that are alive at once: its input, the norm, the activation, what the convolution
/// writes, and a copy in the order that its kernel reads.
const ALIVE: u64 = 5;
/// Side of a mosaic, over that of a tile. More is nearer to the whole, and takes memory by the square.
const MOSAIC: usize = 2;
/// Side of its patches, in pixels of the latent: convolutions at their borders see pixels from elsewhere.
const PATCH: usize = 16;

impl Autoencoder {
    /// As [`Autoencoder::decode`], tile by tile; equal to it where one tile holds the whole latent.
    ///
    /// # Errors
    /// An invalid tiling; as [`Autoencoder::decode`].
    pub fn decode_tiled(&self, latent: &Tensor, tiling: Tiling) -> Result<Tensor, ModelError> {
        tiling.validate()?;
        let grid = grid_of("latent", latent, self.config.latent_channels, 1)?;
        if grid.rows.max(grid.columns) <= tiling.tile {
            return self.decode(latent);
        }
        let (kind, look) = (self.precision.kind(), || Observer(None));
        let h = self.decoder.coarse(&self.for_decoder(latent)?, kind, &mut look())?;
        let canvas = Canvas::new(tiling, grid.rows, grid.columns, self.config.downsampling());
        in_tiles(&h, grid, 1, (tiling, canvas), |h, norms| self.decoder.fine(h, kind, norms, &mut look()))
    }

    /// As [`Autoencoder::encode`], tile by tile; equal to it where one tile holds the whole image.
    ///
    /// # Errors
    /// An invalid tiling; as [`Autoencoder::encode`].
    pub fn encode_tiled(&self, image: &Tensor, tiling: Tiling) -> Result<Moments, ModelError> {
        tiling.validate()?;
        let rate = self.config.downsampling();
        let grid = grid_of("image", image, self.config.in_channels, rate)?;
        if grid.rows.max(grid.columns) <= tiling.tile {
            return self.encode(image);
        }
        let (kind, look) = (self.precision.kind(), || Observer(None));
        let canvas = Canvas::new(tiling, grid.rows, grid.columns, 1);
        let fine = |x: &Tensor, norms: &Norms| self.encoder.fine(x, kind, norms, &mut look());
        let h = in_tiles(image, grid, rate, (tiling, canvas), fine)?;
        self.moments(&self.encoder.coarse(h, kind, &mut look())?)
    }
}

/// What `fine` makes of `x`, whose pixels are `rate` to one of the latent's, `grid`, tile by tile on the canvas.
fn in_tiles(
    x: &Tensor,
    grid: Grid,
    rate: usize,
    (tiling, canvas): (Tiling, Canvas),
    fine: impl Fn(&Tensor, &Norms) -> Result<Tensor, TorchError>,
) -> Result<Tensor, ModelError> {
    let known = in_mosaics(x, [grid.rows, grid.columns], rate, tiling, &fine)?;
    canvas.fill(|row, column| Ok(fine(&cut(x, row, column, rate)?, &Norms::known(&known))?))
}

/// What norms find in `x`, of which a pixel of the latent is `rate` pixels.
///
/// They look at mosaics, each of patches from all over it, so that each is much like the whole, and all of them together are it.
fn in_mosaics(
    x: &Tensor,
    sides: [usize; 2],
    rate: usize,
    tiling: Tiling,
    fine: impl Fn(&Tensor, &Norms) -> Result<Tensor, TorchError>,
) -> Result<Vec<Groups>, ModelError> {
    let patch = PATCH.min(tiling.tile);
    let mosaics = sides[0].max(sides[1]).div_ceil(MOSAIC * tiling.tile);
    let mut sums = Sums::default();
    for first_row in 0..mosaics {
        for first_column in 0..mosaics {
            let pick = |x: &Tensor, dim: usize, first: usize| {
                let pixels = patches(sides[dim - 2], patch, first, mosaics, rate);
                x.f_index_select(dim as i64, &Tensor::from_slice(&pixels).f_to_device(x.device())?)
            };
            let mosaic = pick(&pick(x, 2, first_row)?, 3, first_column)?;
            if mosaic.numel() == 0 {
                continue;
            }
            let kept = RefCell::default();
            drop(fine(&mosaic, &Norms::Kept(&kept))?);
            sums.add(&kept.into_inner(), mosaic.numel() as f64)?;
        }
    }
    Ok(sums.groups()?)
}

/// The pixels of every `step`-th patch of a side, from patch number `first` on.
fn patches(side: usize, patch: usize, first: usize, step: usize, rate: usize) -> Vec<i64> {
    let patch = patch.min(side);
    let count = side.div_ceil(patch);
    let start = |index: usize| (side - patch) * index / (count - 1).max(1);
    let pixels = |index: usize| start(index) * rate..(start(index) + patch) * rate;
    (first..count).step_by(step).flat_map(pixels).map(|pixel| pixel as i64).collect()
}

impl AutoencoderConfig {
    /// An estimate from above of the bytes that [`Autoencoder::decode_tiled`] needs in f32, for one image of `height` ×
    /// `width` pixels: the weights, the image, what joins both parts of the network, and the larger of five of a
    /// mosaic's largest intermediate and of what the part at the latent's resolution needs. Without gradients
    /// ([`tch::no_grad`]), which keep every intermediate.
    ///
    /// KL-f8 at 4096 × 4096 pixels with the default tiles: 6.4 GB, where the whole image at once would need 86 GB and
    /// more for attention.
    #[must_use]
    pub fn decode_tiled_bytes(&self, tiling: Tiling, height: usize, width: usize) -> u64 {
        self.tiled_bytes(&Layout::new(self).decoder, tiling, height, width)
    }

    /// As [`AutoencoderConfig::decode_tiled_bytes`], of [`Autoencoder::encode_tiled`]: 4.3 GB.
    #[must_use]
    pub fn encode_tiled_bytes(&self, tiling: Tiling, height: usize, width: usize) -> u64 {
        self.tiled_bytes(&Layout::new(self).encoder, tiling, height, width)
    }

    fn tiled_bytes(&self, layers: &[Layer], tiling: Tiling, height: usize, width: usize) -> u64 {
        let rate = self.downsampling();
        let pixels = |layer: &Layer| {
            // The whole at the latent's resolution, a mosaic at finer ones.
            let most = if layer.rate == rate { usize::MAX } else { MOSAIC * tiling.tile * rate };
            (height.min(most) * width.min(most) / layer.rate.pow(2)) as u64
        };
        let channels = |layer: &Layer| match layer.form {
            Form::Convolution { inputs, outputs, .. } | Form::Residual { inputs, outputs } => {
                inputs.max(outputs) as u64
            }
            Form::Attention { channels } | Form::Norm { channels } => channels as u64,
        };
        let alive = |layer: &Layer| {
            let scores = match layer.form {
                // With their softmax, though not every kernel writes them out.
                Form::Attention { .. } => 2 * scores_at_once(pixels(layer)),
                _ => 0,
            };
            ALIVE * pixels(layer) * channels(layer) + scores
        };
        let coarse = layers.iter().filter(|layer| layer.rate == rate);
        let joint = coarse.map(|layer| pixels(layer) * channels(layer)).max().unwrap_or(0);
        let largest = layers.iter().map(alive).max().unwrap_or(0);
        let image = (height * width * self.in_channels) as u64;
        F32 * (self.parameter_count() + image + joint + largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_tiles_of_4096_pixels_fit_in_8_gb() {
        let (config, tiling) = (AutoencoderConfig::kl_f8(), Tiling::default());
        let gb = |bytes: u64| (bytes as f64 / 1e8).round() / 10.0;
        assert_eq!(gb(config.decode_tiled_bytes(tiling, 4096, 4096)), 6.4);
        assert_eq!(gb(config.encode_tiled_bytes(tiling, 4096, 4096)), 4.3);
    }
}
