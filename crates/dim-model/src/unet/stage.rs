//! Layers between two long skips.

use dim_torch::{Parameters, TorchError};
use tch::Tensor;

use super::{
    attention::Attention,
    convolution::Convolution,
    layout::{self, Form},
    residual::Residual,
};
use crate::{Precision, observer::Observer};

/// A layer of any form.
enum Layer {
    Convolution(Convolution),
    Residual(Residual),
    Attention(Attention),
}

impl Layer {
    fn new(parameters: &Parameters, layer: &layout::Layer, head_channels: usize) -> Result<Self, TorchError> {
        let name = &layer.name;
        Ok(match layer.form {
            Form::Convolution { .. } => Self::Convolution(Convolution::new(parameters, name)?),
            Form::Residual { inputs, outputs, resample } => {
                Self::Residual(Residual::new(parameters, name, inputs != outputs, resample)?)
            }
            Form::Attention { .. } => Self::Attention(Attention::new(parameters, name, head_channels)?),
        })
    }

    fn forward(&self, x: &Tensor, activated: &Tensor, precision: Precision) -> Result<Tensor, TorchError> {
        match self {
            Self::Convolution(convolution) => convolution.forward(x, precision),
            Self::Residual(residual) => residual.forward(x, activated, precision),
            Self::Attention(attention) => attention.forward(x, precision),
        }
    }
}

/// Layers one after the other.
pub(super) struct Stage {
    name: String,
    layers: Vec<Layer>,
}

impl Stage {
    /// The layers that `stage` describes, with attention heads of `head_channels`.
    pub(super) fn new(
        parameters: &Parameters,
        stage: &layout::Stage,
        head_channels: usize,
    ) -> Result<Self, TorchError> {
        let layers = stage.layers.iter().map(|layer| Layer::new(parameters, layer, head_channels));
        Ok(Self { name: stage.name.clone(), layers: layers.collect::<Result<_, _>>()? })
    }

    /// `h` `[batch, channel, row, column]` and `activated` `[batch, embedding]`, silu of the embedding.
    pub(super) fn forward(
        &self,
        mut h: Tensor,
        activated: &Tensor,
        precision: Precision,
        observe: &mut Observer,
    ) -> Result<Tensor, TorchError> {
        for layer in &self.layers {
            h = layer.forward(&h, activated, precision)?;
        }
        observe.see(|| self.name.clone(), &h);
        Ok(h)
    }
}
