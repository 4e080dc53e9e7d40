//! One block: norm, modulation, Mamba, gate, residual; in the decoder a long skip first. Source: DiM, figure 2.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::{config::DimConfig, mamba::Mamba};
use crate::{
    Precision,
    layers::{Branch, Form, Norm, Stream},
    observer::Observer,
};

/// One block of the network.
pub(crate) struct Block {
    name: String,
    norm: Norm,
    pub(crate) mamba: Mamba,
}

impl Block {
    /// What leaves a block: the stream, the layer's output and its gate.
    pub(crate) const LEAVES: Form = Form { branch: true, gate: true, gate_offset: 1.0 };

    /// Block `index` of the network.
    pub(crate) fn new(parameters: &Parameters, config: &DimConfig, index: usize) -> Result<Self, TorchError> {
        let name = format!("blocks.{index}");
        Ok(Self {
            norm: Norm::rms(parameters, &format!("{name}.norm"))?,
            mamba: Mamba::new(parameters, config, &format!("{name}.mamba"))?,
            name,
        })
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
