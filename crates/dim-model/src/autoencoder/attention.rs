//! Attention over all pixels of an image, with one head.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::{
    layers::{Convolution, Norm},
    norms::Norms,
};

/// Pixels up to which all queries come at once: those of an image of 1024 × 1024 for KL-f8.
const WHOLE: u64 = 128 * 128;
/// Scores that are alive at once above that: 256 MiB of them, where a kernel writes them out.
const SCORES: u64 = 1 << 26;

/// The most scores of an image of so many pixels that are in memory at once.
pub(super) fn scores_at_once(pixels: u64) -> u64 {
    queries_at_once(pixels) * pixels
}

fn queries_at_once(pixels: u64) -> u64 {
    if pixels <= WHOLE { pixels } else { (SCORES / pixels).max(1) }
}

/// Norm, attention over all pixels with one head, beside a shortcut. Its scale is the root of the channels.
pub(super) struct Attention {
    norm: Norm,
    /// Queries, keys, values, and the map behind them.
    maps: [Convolution; 4],
}

impl Attention {
    pub(super) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        let map = |layer: &str| Convolution::new(parameters, &format!("{name}.{layer}"));
        Ok(Self {
            norm: Norm::new(parameters, &format!("{name}.norm"))?,
            maps: [map("q")?, map("k")?, map("v")?, map("proj_out")?],
        })
    }

    /// Image to image, `[batch, channel, row, column]`.
    pub(super) fn forward(&self, x: &Tensor, kind: Kind, norms: &Norms) -> Result<Tensor, TorchError> {
        let normed = self.norm.forward(x, norms)?;
        let size = normed.size();
        // [batch, channel, row, column] → [batch, one head, pixel, channel]
        let pixels = |map: &Convolution| {
            let pixels = map.forward(&normed, kind)?.f_flatten(2, 3)?.f_transpose(1, 2)?;
            Ok::<_, TorchError>(pixels.f_unsqueeze(1)?)
        };
        let [q, k, v] = [pixels(&self.maps[0])?, pixels(&self.maps[1])?, pixels(&self.maps[2])?];
        let at_once = queries_at_once(q.size()[2].unsigned_abs()) as i64;
        let attend =
            |q: Tensor| Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
        let attended = if q.size()[2] <= at_once {
            attend(q)?
        } else {
            let pieces = q.f_split(at_once, 2)?.into_iter().map(attend).collect::<Result<Vec<_>, _>>()?;
            Tensor::f_cat(&pieces, 2)?
        };
        let attended = attended.f_squeeze_dim(1)?.f_transpose(1, 2)?.f_reshape(size)?;
        Ok(x.f_add(&self.maps[3].forward(&attended, kind)?)?)
    }
}
