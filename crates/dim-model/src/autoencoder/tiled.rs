//! Encoding and decoding tile by tile, for images whose intermediates do not fit in memory.
//!
//! A tile is computed as if it were the whole image: its norms see the mean and variance, and its attention the pixels, of
//! the tile alone. The result is therefore near that of the whole image, not equal to it; neighbours that differ fade into
//! each other over their overlap, so that there is no edge where they meet.

use tch::Tensor;

use super::{
    Autoencoder, AutoencoderConfig, Moments,
    layout::{Form, Layer, Layout},
    tiling::{Canvas, Tiling, cut},
};
use crate::{ModelError, grid::grid_of};

/// Bytes of an f32.
const F32: u64 = 4;
/// Intermediates of a residual block that are alive at once: its input, the norm, the activation, what the convolution
/// writes, and a copy in the order that its kernel reads.
const ALIVE: u64 = 5;

impl Autoencoder {
    /// As [`Autoencoder::decode`], tile by tile; equal to it where one tile holds the whole latent.
    ///
    /// # Errors
    /// An invalid tiling; as [`Autoencoder::decode`].
    pub fn decode_tiled(&self, latent: &Tensor, tiling: Tiling) -> Result<Tensor, ModelError> {
        tiling.validate()?;
        let grid = grid_of("latent", latent, self.config.latent_channels, 1)?;
        let canvas = Canvas::new(tiling, grid.rows, grid.columns, self.config.downsampling());
        canvas.fill(|row, column| self.decode(&cut(latent, row, column, 1)?))
    }

    /// As [`Autoencoder::encode`], tile by tile; equal to it where one tile holds the whole image. Means and logarithms of
    /// variances blend, each by itself.
    ///
    /// # Errors
    /// An invalid tiling; as [`Autoencoder::encode`].
    pub fn encode_tiled(&self, image: &Tensor, tiling: Tiling) -> Result<Moments, ModelError> {
        tiling.validate()?;
        let rate = self.config.downsampling();
        let grid = grid_of("image", image, self.config.in_channels, rate)?;
        let both = Canvas::new(tiling, grid.rows, grid.columns, 1).fill(|row, column| {
            let moments = self.encode(&cut(image, row, column, rate)?)?;
            moments.both()
        })?;
        Moments::new(&both, self.config.scaling_factor)
    }
}

impl AutoencoderConfig {
    /// An estimate from above of the bytes that [`Autoencoder::decode_tiled`] needs in f32, for one image of `height` ×
    /// `width` pixels: the weights, the image, and five of a tile's largest intermediate. Without gradients
    /// ([`tch::no_grad`]), which keep every intermediate.
    ///
    /// KL-f8 at 4096 × 4096 pixels with the default tiles: 2.0 GB, where the whole image at once would need 86 GB and
    /// more for attention.
    #[must_use]
    pub fn decode_tiled_bytes(&self, tiling: Tiling, height: usize, width: usize) -> u64 {
        self.tiled_bytes(&Layout::new(self).decoder, tiling, height, width)
    }

    /// As [`AutoencoderConfig::decode_tiled_bytes`], of [`Autoencoder::encode_tiled`]: 1.3 GB.
    #[must_use]
    pub fn encode_tiled_bytes(&self, tiling: Tiling, height: usize, width: usize) -> u64 {
        self.tiled_bytes(&Layout::new(self).encoder, tiling, height, width)
    }

    fn tiled_bytes(&self, layers: &[Layer], tiling: Tiling, height: usize, width: usize) -> u64 {
        let side = |length: usize| length.min(tiling.tile * self.downsampling()) as u64;
        let (rows, columns) = (side(height), side(width));
        let pixels = |layer: &Layer| rows * columns / (layer.rate as u64).pow(2);
        let largest = layers.iter().map(|layer| {
            let channels = match layer.form {
                Form::Convolution { inputs, outputs, .. } | Form::Residual { inputs, outputs } => inputs.max(outputs),
                Form::Attention { channels } | Form::Norm { channels } => channels,
            };
            pixels(layer) * channels as u64
        });
        let attention = layers.iter().filter(|layer| matches!(layer.form, Form::Attention { .. }));
        // Scores and their softmax, though not every kernel writes them out.
        let attention = attention.map(|layer| 2 * pixels(layer).pow(2)).max().unwrap_or(0);
        let image = (height * width * self.in_channels) as u64;
        F32 * (self.parameter_count() + image + ALIVE * largest.max().unwrap_or(0) + attention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_tiles_of_4096_pixels_fit_in_8_gb() {
        let (config, tiling) = (AutoencoderConfig::kl_f8(), Tiling::default());
        let gb = |bytes: u64| (bytes as f64 / 1e8).round() / 10.0;
        assert_eq!(gb(config.decode_tiled_bytes(tiling, 4096, 4096)), 2.0);
        assert_eq!(gb(config.encode_tiled_bytes(tiling, 4096, 4096)), 1.3);
    }
}
