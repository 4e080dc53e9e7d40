//! The residual block: norm, activation and convolution twice, the second norm scaled and shifted by the embedding. Source:
//! Dhariwal & Nichol 2021, section 3.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::{convolution::Convolution, layout::Resample, norm::GroupNorm};
use crate::{Precision, layers::Linear};

/// One residual block.
pub(super) struct Residual {
    norm_in: GroupNorm,
    conv_in: Convolution,
    modulation: Linear,
    norm_out: GroupNorm,
    conv_out: Convolution,
    /// Where the number of channels changes.
    skip: Option<Convolution>,
    resample: Resample,
}

impl Residual {
    /// The block whose parameters start with `name`; `widens` says that it changes the number of channels.
    pub(super) fn new(
        parameters: &Parameters,
        name: &str,
        widens: bool,
        resample: Resample,
    ) -> Result<Self, TorchError> {
        let part = |part: &str| format!("{name}.{part}");
        Ok(Self {
            norm_in: GroupNorm::new(parameters, &part("in_layers.0"))?,
            conv_in: Convolution::new(parameters, &part("in_layers.2"))?,
            modulation: Linear::new(parameters, &part("emb_layers.1"))?,
            norm_out: GroupNorm::new(parameters, &part("out_layers.0"))?,
            conv_out: Convolution::new(parameters, &part("out_layers.3"))?,
            skip: widens.then(|| Convolution::new(parameters, &part("skip_connection"))).transpose()?,
            resample,
        })
    }

    /// `x` `[batch, input, row, column]` and `activated` `[batch, embedding]` f32, silu of the embedding →
    /// `[batch, output, row, column]`, at half or twice the size if the block resamples.
    pub(super) fn forward(&self, x: &Tensor, activated: &Tensor, precision: Precision) -> Result<Tensor, TorchError> {
        let h = self.resample(&self.norm_in.forward(x)?.f_silu()?)?;
        let h = self.conv_in.forward(&h, precision)?;
        // A few rows only: computed in f32 whatever the network's precision.
        let modulation = self.modulation.forward(activated, Kind::Float)?.to_kind(h.kind());
        let halves = modulation.f_unsqueeze(-1)?.f_unsqueeze(-1)?.f_chunk(2, 1)?;
        let (scale, shift) = (&halves[0], &halves[1]);
        let h = self.norm_out.forward(&h)?.f_mul(&(scale + 1.0))?.f_add(shift)?.f_silu()?;
        let h = self.conv_out.forward(&h, precision)?;
        let x = self.resample(x)?;
        match &self.skip {
            Some(skip) => Ok(skip.forward(&x, precision)?.f_add(&h)?),
            None => Ok(x.f_add(&h)?),
        }
    }

    fn resample(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        match self.resample {
            Resample::Keep => Ok(x.shallow_clone()),
            Resample::Halve => Ok(x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)?),
            Resample::Double => {
                let size = x.size();
                Ok(x.f_upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)?)
            }
        }
    }
}
