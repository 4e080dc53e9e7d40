//! Encoder and decoder.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::{
    config::AutoencoderConfig,
    layers::{Convolution, Middle, Norm, Residual},
};
use crate::observer::Observer;

/// Residual blocks of one resolution, and the convolution to the next.
struct Level {
    number: usize,
    blocks: Vec<Residual>,
    resample: Option<Convolution>,
}

/// From an image to the moments of its latent, before the last 1 × 1 convolution.
pub(super) struct Encoder {
    conv_in: Convolution,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: Norm,
    conv_out: Convolution,
}

impl Encoder {
    pub(super) fn new(parameters: &Parameters, config: &AutoencoderConfig) -> Result<Self, TorchError> {
        let mut inputs = config.channels;
        let last = config.levels() - 1;
        let level = |number: usize| {
            let name = format!("encoder.down.{number}");
            let mut blocks = Vec::new();
            for block in 0..config.num_res_blocks {
                let widens = inputs != config.width(number);
                blocks.push(Residual::new(parameters, &format!("{name}.block.{block}"), widens)?);
                inputs = config.width(number);
            }
            let resample = (number < last).then(|| Convolution::new(parameters, &format!("{name}.downsample.conv")));
            Ok(Level { number, blocks, resample: resample.transpose()? })
        };
        let levels = (0..config.levels()).map(level).collect::<Result<_, TorchError>>()?;
        Ok(Self {
            conv_in: Convolution::new(parameters, "encoder.conv_in")?,
            levels,
            middle: Middle::new(parameters, "encoder")?,
            norm_out: Norm::new(parameters, "encoder.norm_out")?,
            conv_out: Convolution::new(parameters, "encoder.conv_out")?,
        })
    }

    pub(super) fn forward(&self, image: &Tensor, kind: Kind, observe: &mut Observer) -> Result<Tensor, TorchError> {
        let mut h = self.conv_in.forward(image, kind)?;
        for Level { number, blocks, resample } in &self.levels {
            for block in blocks {
                h = block.forward(&h, kind)?;
            }
            observe.see(|| format!("encoder.down.{number}.block_last"), &h);
            if let Some(convolution) = resample {
                h = convolution.halve(&h, kind)?;
            }
        }
        let first = self.middle.first(&h, kind)?;
        observe.see(|| "encoder.mid.block_1".into(), &first);
        let attended = self.middle.attended(&first, kind)?;
        observe.see(|| "encoder.mid.attn_1".into(), &attended);
        let h = self.middle.last(&attended, kind)?;
        let out = self.conv_out.forward(&self.norm_out.activated(&h)?, kind)?;
        observe.see(|| "encoder.out".into(), &out);
        Ok(out)
    }
}

/// From a latent behind the first 1 × 1 convolution to an image.
pub(super) struct Decoder {
    conv_in: Convolution,
    middle: Middle,
    levels: Vec<Level>,
    norm_out: Norm,
    conv_out: Convolution,
}

impl Decoder {
    pub(super) fn new(parameters: &Parameters, config: &AutoencoderConfig) -> Result<Self, TorchError> {
        let mut inputs = config.width(config.levels() - 1);
        let level = |number: usize| {
            let name = format!("decoder.up.{number}");
            let mut blocks = Vec::new();
            for block in 0..=config.num_res_blocks {
                let widens = inputs != config.width(number);
                blocks.push(Residual::new(parameters, &format!("{name}.block.{block}"), widens)?);
                inputs = config.width(number);
            }
            let resample = (number > 0).then(|| Convolution::new(parameters, &format!("{name}.upsample.conv")));
            Ok(Level { number, blocks, resample: resample.transpose()? })
        };
        let levels = (0..config.levels()).rev().map(level).collect::<Result<_, TorchError>>()?;
        Ok(Self {
            conv_in: Convolution::new(parameters, "decoder.conv_in")?,
            middle: Middle::new(parameters, "decoder")?,
            levels,
            norm_out: Norm::new(parameters, "decoder.norm_out")?,
            conv_out: Convolution::new(parameters, "decoder.conv_out")?,
        })
    }

    pub(super) fn forward(&self, latent: &Tensor, kind: Kind, observe: &mut Observer) -> Result<Tensor, TorchError> {
        let h = self.conv_in.forward(latent, kind)?;
        observe.see(|| "decoder.conv_in".into(), &h);
        let attended = self.middle.attended(&self.middle.first(&h, kind)?, kind)?;
        observe.see(|| "decoder.mid.attn_1".into(), &attended);
        let mut h = self.middle.last(&attended, kind)?;
        for Level { number, blocks, resample } in &self.levels {
            for block in blocks {
                h = block.forward(&h, kind)?;
            }
            observe.see(|| format!("decoder.up.{number}.block_last"), &h);
            if let Some(convolution) = resample {
                h = convolution.double(&h, kind)?;
            }
        }
        Ok(self.conv_out.forward(&self.norm_out.activated(&h)?, kind)?.to_kind(Kind::Float))
    }
}
