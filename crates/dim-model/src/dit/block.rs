//! One block of a DiT: attention and feed-forward layer, each modulated and gated. Source: DiT, figure 3 (adaLN-Zero).

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::config::DitConfig;
use crate::{
    grid::size,
    layers::{Attention, Branch, Form, Gelu, Linear, Mlp, Norm, Stream},
};

/// Added to the variance in every layer norm.
pub(super) const NORM_EPS: f32 = 1e-6;

/// One block.
pub(crate) struct Block {
    modulation: Linear,
    norm: Norm,
    attention: Attention,
    mlp: Mlp,
}

impl Block {
    /// What leaves a block: the stream, the feed-forward layer's output and its gate.
    pub(super) const LEAVES: Form = Form { branch: true, gate: true, gate_offset: 0.0 };

    /// Block `index` of the network.
    pub(super) fn new(parameters: &Parameters, config: &DitConfig, index: usize) -> Result<Self, TorchError> {
        let name = |layer: &str| format!("blocks.{index}.{layer}");
        Ok(Self {
            modulation: Linear::new(parameters, &name("adaLN_modulation.1"))?,
            norm: Norm::plain_layer(size(config.d_model), NORM_EPS),
            attention: Attention::new(parameters, &name("attn"), config.heads, true)?,
            mlp: Mlp::new(parameters, &name("mlp"), Gelu::Tanh)?,
        })
    }

    /// `condition`: SiLU of the embedding of time and class, `[batch, d_model]`. Returns the stream that leaves.
    pub(crate) fn forward(&self, stream: &Stream, condition: &Tensor, kind: Kind) -> Result<Stream, TorchError> {
        let modulation = self.modulation.forward(condition, kind)?.to_kind(Kind::Float).f_unflatten(1, [6, -1])?;
        // Taken apart by one operation, whose gradient is one copy.
        let parts: [Tensor; 6] = modulation
            .f_unbind(1)?
            .try_into()
            .map_err(|_| TorchError::Libtorch("a block's modulation has six parts".to_owned()))?;
        let [shift_1, scale_1, gate_1, shift_2, scale_2, gate_2] = parts;
        let gated = |output, gate| Branch { output, gate: Some(gate), gate_offset: 0.0 };

        let (x, input) = self.norm.modulate(stream, Some((&shift_1, &scale_1)), kind)?;
        let attended = gated(self.attention.forward(&input, kind)?, gate_1);
        let (x, input) = self.norm.modulate(&Stream { x, branch: Some(attended) }, Some((&shift_2, &scale_2)), kind)?;
        Ok(Stream { x, branch: Some(gated(self.mlp.forward(&input, kind)?, gate_2)) })
    }
}
