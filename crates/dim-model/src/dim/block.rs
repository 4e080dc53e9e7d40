//! One block: norm, modulation, Mamba, gate, residual; in the decoder a long skip first. Source: DiM, figure 2.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::{
    config::{DimConfig, LongSkip},
    mamba::Mamba,
};
use crate::{
    Precision,
    layers::{Branch, Form, Join, Norm, Stream},
    observer::Observer,
};

/// One block of the network.
pub(crate) struct Block {
    name: String,
    join: Option<Join>,
    norm: Norm,
    pub(crate) mamba: Mamba,
}

impl Block {
    /// What leaves a block: the stream, the layer's output and its gate.
    pub(crate) const LEAVES: Form = Form { branch: true, gate: true, gate_offset: 1.0 };

    /// Block `index` of the network.
    pub(crate) fn new(parameters: &Parameters, config: &DimConfig, index: usize) -> Result<Self, TorchError> {
        let name = format!("blocks.{index}");
        let join = match config.long_skip() {
            LongSkip::OneLinear if index >= config.first_decoder_block() => {
                Some(Join::one(parameters, &format!("{name}.long_skip"))?)
            }
            LongSkip::TwoLinears if index >= config.first_decoder_block() => {
                Some(Join::two(parameters, &format!("{name}.long_skip"))?)
            }
            _ => None,
        };
        Ok(Self {
            join,
            norm: Norm::rms(parameters, &format!("{name}.norm"))?,
            mamba: Mamba::new(parameters, config, &format!("{name}.mamba"))?,
            name,
        })
    }

    /// The linear map of stream and skip that replaces the stream; a block without a long skip keeps it.
    pub(crate) fn join(&self, stream: Tensor, skip: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        match &self.join {
            Some(join) => join.forward(&stream, skip, kind),
            None => Ok(stream.to_kind(Kind::Float)),
        }
    }

    /// `modulation` `[batch, 3, d_model]`, that of this block; `mix` runs the Mamba layer on its input; returns the stream that entered, `[batch, token, d_model]` f32 with everything
    /// added, and the one that leaves.
    pub(crate) fn forward(
        &self,
        stream: &Stream,
        modulation: &Tensor,
        precision: Precision,
        mix: impl FnOnce(&Mamba, &Tensor) -> Result<Tensor, TorchError>,
        observe: &mut Observer,
    ) -> Result<(Tensor, Stream), TorchError> {
        let mut rows = modulation.f_unbind(1)?.into_iter();
        let (Some(shift), Some(scale), Some(gate)) = (rows.next(), rows.next(), rows.next()) else {
            return Err(TorchError::Libtorch("a block's modulation is shift, scale and gate".to_owned()));
        };
        let (entered, input) = self.norm.modulate(stream, Some((&shift, &scale)), precision.kind())?;
        let output = mix(&self.mamba, &input)?;
        if observe.looks() {
            let output = output.to_kind(Kind::Float);
            observe.see(|| format!("{}.mamba_in", self.name), &input);
            observe.see(|| format!("{}.mamba_out", self.name), &output);
            observe.see(|| format!("{}.hidden", self.name), &(gate.f_unsqueeze(1)? + 1.0).f_mul(&output)?);
            observe.see(|| format!("{}.residual", self.name), &entered);
        }
        let left =
            Stream { x: entered.shallow_clone(), branch: Some(Branch { output, gate: Some(gate), gate_offset: 1.0 }) };
        Ok((entered, left))
    }
}
