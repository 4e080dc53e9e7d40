//! One block: norm, modulation, Mamba, gate, residual; in the decoder a long skip first. Source: DiM, figure 2.

use dim_torch::{Parameters, TokenMap, TorchError};
use tch::{Kind, Tensor};

use super::{
    config::{DimConfig, LongSkip},
    mamba::Mamba,
};
use crate::{
    Precision,
    layers::{Branch, Form, Linear, Norm, Stream},
    observer::Observer,
};

/// The linear map that joins the stream with a long skip. There is no bypass: it replaces the stream.
enum Join {
    One(Linear),
    Two { state: Linear, skip: Linear },
}

impl Join {
    fn forward(&self, stream: &Tensor, skip: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let joined = match self {
            Self::One(linear) => {
                linear.forward(&Tensor::f_cat(&[stream.to_kind(kind), skip.to_kind(kind)], -1)?, kind)?
            }
            Self::Two { state, skip: skip_linear } => {
                state.forward(stream, kind)?.f_add(&skip_linear.forward(skip, kind)?)?
            }
        };
        Ok(joined.to_kind(Kind::Float))
    }
}

/// One block of the network.
pub(crate) struct Block {
    name: String,
    join: Option<Join>,
    norm: Norm,
    modulation_table: Tensor,
    pub(crate) mamba: Mamba,
}

impl Block {
    /// What leaves a block: the stream, the layer's output and its gate.
    pub(crate) const LEAVES: Form = Form { branch: true, gate: true, gate_offset: 1.0 };

    /// Block `index` of the network.
    pub(crate) fn new(parameters: &Parameters, config: &DimConfig, index: usize) -> Result<Self, TorchError> {
        let name = format!("blocks.{index}");
        let join = if index < config.first_decoder_block() {
            None
        } else {
            Some(match config.long_skip() {
                LongSkip::OneLinear => Join::One(Linear::new(parameters, &format!("{name}.long_skip"))?),
                LongSkip::TwoLinears => Join::Two {
                    state: Linear::new(parameters, &format!("{name}.long_skip.state"))?,
                    skip: Linear::new(parameters, &format!("{name}.long_skip.skip"))?,
                },
            })
        };
        Ok(Self {
            join,
            norm: Norm::rms(parameters, &format!("{name}.norm"))?,
            modulation_table: parameters.get(&format!("{name}.modulation_table"))?,
            mamba: Mamba::new(parameters, config, &format!("{name}.mamba"))?,
            name,
        })
    }

    /// The linear map of stream and skip, f32, that replaces the stream; a block without a long skip keeps it.
    pub(crate) fn join(&self, stream: Tensor, skip: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        match &self.join {
            Some(join) => join.forward(&stream, skip, kind),
            None => Ok(stream.to_kind(Kind::Float)),
        }
    }

    /// `modulation` `[batch, 3, d_model]`; returns the stream that entered, `[batch, token, d_model]` f32 with everything
    /// added, and the one that leaves.
    pub(crate) fn forward(
        &self,
        stream: &Stream,
        modulation: &Tensor,
        token_map: &TokenMap,
        precision: Precision,
        observe: &mut Observer,
    ) -> Result<(Tensor, Stream), TorchError> {
        let modulation = modulation.f_add(&self.modulation_table)?;
        let row = |index| modulation.f_select(1, index);
        let (shift, scale, gate) = (row(0)?, row(1)?, row(2)?);
        let (entered, input) = self.norm.modulate(stream, Some((&shift, &scale)), precision.kind())?;
        let output = self.mamba.forward(&input, token_map, precision)?;
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
