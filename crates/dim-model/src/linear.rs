//! Linear maps in the network's compute precision.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

/// `x · weightᵀ + bias`, weight `[outputs, inputs]`.
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The map whose parameters are `name.weight` and `name.bias`.
    pub(crate) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        let bias = Some(parameters.get(&format!("{name}.bias"))?);
        Ok(Self { weight: parameters.get(&format!("{name}.weight"))?, bias })
    }

    /// The map whose parameter is `name.weight`, without a bias.
    pub(crate) fn without_bias(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        Ok(Self { weight: parameters.get(&format!("{name}.weight"))?, bias: None })
    }

    /// `[…, inputs]` → `[…, outputs]`, computed and returned in `kind`.
    pub(crate) fn forward(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(kind));
        Ok(x.to_kind(kind).f_linear(&self.weight.to_kind(kind), bias.as_ref())?)
    }
}
