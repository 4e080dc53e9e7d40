//! Encoder and decoder.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::{
    attention::Attention,
    config::AutoencoderConfig,
    layers::{Convolution, Middle, Norm, Residual},
    norms::Norms,
};
use crate::observer::Observer;

/// Residual blocks of one resolution, and the convolution to the next.
struct Level {
    number: usize,
    /// Each with the attention behind it, where the configuration has it.
    blocks: Vec<(Residual, Option<Attention>)>,
    resample: Option<Convolution>,
}

impl Level {
    /// `blocks` residual blocks from `inputs` channels on; `resample` is what the convolution is called, if there is one.
    fn new(
        parameters: &Parameters,
        config: &AutoencoderConfig,
        (side, number): (&str, usize),
        (inputs, blocks): (usize, usize),
        resample: Option<&str>,
    ) -> Result<Self, TorchError> {
        let name = format!("{side}.{number}");
        let block = |block: usize| {
            let widens = block == 0 && inputs != config.width(number);
            let attention = || Attention::new(parameters, &format!("{name}.attn.{block}"));
            let residual = Residual::new(parameters, &format!("{name}.block.{block}"), widens)?;
            Ok((residual, config.attends(number).then(attention).transpose()?))
        };
        let resample = resample.map(|part| Convolution::new(parameters, &format!("{name}.{part}.conv")));
        let blocks = (0..blocks).map(block).collect::<Result<_, TorchError>>()?;
        Ok(Self { number, blocks, resample: resample.transpose()? })
    }

    fn forward(&self, mut h: Tensor, kind: Kind, norms: &Norms) -> Result<Tensor, TorchError> {
        for (block, attention) in &self.blocks {
            h = block.forward(&h, kind, norms)?;
            if let Some(attention) = attention {
                h = attention.forward(&h, kind, norms)?;
            }
        }
        Ok(h)
    }
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
        let level = |number: usize| {
            let inputs = if number == 0 { config.channels } else { config.width(number - 1) };
            let resample = (number + 1 < config.levels()).then_some("downsample");
            let place = ("encoder.down", number);
            Level::new(parameters, config, place, (inputs, config.num_res_blocks), resample)
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
        let h = self.fine(image, kind, &Norms::Own, observe)?;
        self.coarse(h, kind, observe)
    }

    /// The first part, at more than the latent's resolution, where nearly all the memory goes.
    pub(super) fn fine(
        &self,
        image: &Tensor,
        kind: Kind,
        norms: &Norms,
        observe: &mut Observer,
    ) -> Result<Tensor, TorchError> {
        let mut h = self.conv_in.forward(image, kind)?;
        for level in &self.levels {
            let Some(convolution) = &level.resample else { break };
            h = level.forward(h, kind, norms)?;
            observe.see(|| format!("encoder.down.{}.block_last", level.number), &h);
            h = convolution.halve(&h, kind)?;
        }
        Ok(h)
    }

    /// The rest, at the latent's resolution.
    pub(super) fn coarse(&self, mut h: Tensor, kind: Kind, observe: &mut Observer) -> Result<Tensor, TorchError> {
        let norms = &Norms::Own;
        for level in self.levels.iter().filter(|level| level.resample.is_none()) {
            h = level.forward(h, kind, norms)?;
            observe.see(|| format!("encoder.down.{}.block_last", level.number), &h);
        }
        let first = self.middle.block_1.forward(&h, kind, norms)?;
        observe.see(|| "encoder.mid.block_1".into(), &first);
        let attended = self.middle.attention.forward(&first, kind, norms)?;
        observe.see(|| "encoder.mid.attn_1".into(), &attended);
        let h = self.middle.block_2.forward(&attended, kind, norms)?;
        let out = self.conv_out.forward(&self.norm_out.activated(&h, norms)?, kind)?;
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
        let level = |number: usize| {
            let inputs = config.width((number + 1).min(config.levels() - 1));
            let resample = (number > 0).then_some("upsample");
            Level::new(parameters, config, ("decoder.up", number), (inputs, config.num_res_blocks + 1), resample)
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
        let h = self.coarse(latent, kind, observe)?;
        self.fine(&h, kind, &Norms::Own, observe)
    }

    /// The first part, at the latent's resolution.
    pub(super) fn coarse(&self, latent: &Tensor, kind: Kind, observe: &mut Observer) -> Result<Tensor, TorchError> {
        let norms = &Norms::Own;
        let h = self.conv_in.forward(latent, kind)?;
        observe.see(|| "decoder.conv_in".into(), &h);
        let first = self.middle.block_1.forward(&h, kind, norms)?;
        let attended = self.middle.attention.forward(&first, kind, norms)?;
        observe.see(|| "decoder.mid.attn_1".into(), &attended);
        let mut h = self.middle.block_2.forward(&attended, kind, norms)?;
        if let Some(level) = self.levels.first() {
            h = level.forward(h, kind, norms)?;
            observe.see(|| format!("decoder.up.{}.block_last", level.number), &h);
        }
        Ok(h)
    }

    /// The rest, at more than that, where nearly all the memory goes.
    pub(super) fn fine(
        &self,
        h: &Tensor,
        kind: Kind,
        norms: &Norms,
        observe: &mut Observer,
    ) -> Result<Tensor, TorchError> {
        let mut h = h.shallow_clone();
        for (level, finer) in self.levels.iter().zip(self.levels.iter().skip(1)) {
            if let Some(convolution) = &level.resample {
                h = convolution.double(&h, kind)?;
            }
            h = finer.forward(h, kind, norms)?;
            observe.see(|| format!("decoder.up.{}.block_last", finer.number), &h);
        }
        Ok(self.conv_out.forward(&self.norm_out.activated(&h, norms)?, kind)?.to_kind(Kind::Float))
    }
}
