//! The residual stream, and what has still to be added to it.

use dim_torch::{TorchError, ops::GatedBranch};
use tch::{Kind, Tensor};

use super::norm::settle;

/// The residual stream, `[batch, token, d_model]` f32 (or as [`Join`](super::Join) returns it), and what the last layer has still to add to it: the next norm does that
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

/// Which tensors a stream consists of, besides the stream itself.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) branch: bool,
    pub(crate) gate: bool,
    pub(crate) gate_offset: f32,
}

impl Stream {
    /// The tensors, for an operation that takes nothing else, and what they are.
    pub(crate) fn parts(&self) -> (Vec<&Tensor>, Form) {
        let gate = self.branch.as_ref().and_then(|branch| branch.gate.as_ref());
        let form = Form {
            branch: self.branch.is_some(),
            gate: gate.is_some(),
            gate_offset: self.branch.as_ref().map_or(0.0, |branch| branch.gate_offset),
        };
        let output = self.branch.as_ref().map(|branch| &branch.output);
        (std::iter::once(&self.x).chain(output).chain(gate).collect(), form)
    }

    /// A stream of this form from the tensors in front of `parts`, and the tensors behind it.
    pub(crate) fn from_parts(parts: &[Tensor], form: Form) -> Result<(Self, &[Tensor]), TorchError> {
        let missing = || TorchError::Libtorch("a part of the stream is missing".to_owned());
        let (x, mut rest) = parts.split_first().ok_or_else(missing)?;
        let mut next = |present: bool| {
            let part = if present { rest.split_first() } else { return Ok(None) };
            let (part, others) = part.ok_or_else(missing)?;
            rest = others;
            Ok::<_, TorchError>(Some(part.shallow_clone()))
        };
        let (output, gate) = (next(form.branch)?, next(form.gate)?);
        let branch = output.map(|output| Branch { output, gate, gate_offset: form.gate_offset });
        Ok((Self { x: x.shallow_clone(), branch }, rest))
    }
}
