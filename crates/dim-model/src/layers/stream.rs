//! The residual stream, and what has still to be added to it.

use dim_torch::{TorchError, ops::GatedBranch};
use tch::{Kind, Tensor};

use super::norm::settle;

/// The residual stream, `[batch, token, d_model]` f32, and what the last layer has still to add to it: the next norm does that
/// as it reads.
pub(crate) struct Stream {
    pub(crate) x: Tensor,
    pub(crate) branch: Option<Branch>,
}

/// A layer's output, `[batch, token, d_model]`, and its gate, `[batch, d_model]` f32: together (`gate_offset` + gate) output.
pub(crate) struct Branch {
    pub(crate) output: Tensor,
    pub(crate) gate: Option<Tensor>,
    pub(crate) gate_offset: f32,
}

impl Branch {
    /// An output that is added as it is.
    pub(crate) fn plain(output: Tensor) -> Self {
        Self { output, gate: None, gate_offset: 0.0 }
    }

    pub(crate) fn gated(&self) -> GatedBranch<'_> {
        GatedBranch { y: &self.output, gate: self.gate.as_ref(), gate_offset: self.gate_offset }
    }
}

impl Stream {
    /// A stream to which nothing is to be added.
    pub(crate) fn new(x: Tensor) -> Self {
        Self { x, branch: None }
    }

    /// The stream with everything added, in `kind`: f32, or that of the network's products.
    pub(crate) fn settle(&self, kind: Kind) -> Result<Tensor, TorchError> {
        match &self.branch {
            Some(branch) => settle(&self.x, &branch.gated(), kind),
            None => Ok(self.x.to_kind(kind)),
        }
    }
}
