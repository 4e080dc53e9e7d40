//! The feed-forward layer of a transformer. Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.3; GELU: Hendrycks &
//! Gimpel 2016 (arXiv 1606.08415).

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::linear::Linear;

/// Which formula of the Gaussian error linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gelu {
    /// By the error function.
    Exact,
    /// By the hyperbolic tangent.
    Tanh,
}

/// Linear map, GELU, linear map.
pub(crate) struct Mlp {
    fc1: Linear,
    fc2: Linear,
    gelu: Gelu,
}

impl Mlp {
    /// The layer whose parameters are `prefix.fc1` and `prefix.fc2`.
    pub(crate) fn new(parameters: &Parameters, prefix: &str, gelu: Gelu) -> Result<Self, TorchError> {
        let linear = |name: &str| Linear::new(parameters, &format!("{prefix}.{name}"));
        Ok(Self { fc1: linear("fc1")?, fc2: linear("fc2")?, gelu })
    }

    /// `[batch, token, d_model]` → the same, computed in `kind`.
    pub(crate) fn forward(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let formula = match self.gelu {
            Gelu::Exact => "none",
            Gelu::Tanh => "tanh",
        };
        self.fc2.forward(&self.fc1.forward(x, kind)?.f_gelu(formula)?, kind)
    }
}
