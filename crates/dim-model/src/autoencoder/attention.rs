//! Attention over all pixels of an image, with one head.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::layers::{Convolution, Norm};

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
    pub(super) fn forward(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let normed = self.norm.forward(x)?;
        let size = normed.size();
        // [batch, channel, row, column] → [batch, one head, pixel, channel]
        let pixels = |map: &Convolution| {
            let pixels = map.forward(&normed, kind)?.f_flatten(2, 3)?.f_transpose(1, 2)?;
            Ok::<_, TorchError>(pixels.f_unsqueeze(1)?)
        };
        let [q, k, v] = [0, 1, 2].map(|index| pixels(&self.maps[index]));
        let attended = Tensor::f_scaled_dot_product_attention(&q?, &k?, &v?, None::<&Tensor>, 0.0, false, None, false)?;
        let attended = attended.f_squeeze_dim(1)?.f_transpose(1, 2)?.f_reshape(size)?;
        Ok(x.f_add(&self.maps[3].forward(&attended, kind)?)?)
    }
}
