//! The layer's two kernels on tensors: what both kinds of sequences run.

use dim_kernels::causal_conv1d::{self, CausalConv1d, CausalConv1dGradients};
use dim_kernels::selective_scan::{self, SelectiveScan, SelectiveScanGradients};
use tch::Tensor;

use super::NAME;
use crate::{
    TokenMap, TorchError,
    bridge::{queue, view, view_mut},
};

/// The small tensors of the layer.
pub(super) struct Vectors<'a> {
    pub(super) conv_weight: &'a Tensor,
    pub(super) conv_bias: &'a Tensor,
    pub(super) delta_bias: &'a Tensor,
    pub(super) d: &'a Tensor,
}

impl Vectors<'_> {
    fn convolution<'a>(
        &'a self,
        x: &'a Tensor,
        token_map: Option<&'a TokenMap>,
    ) -> Result<CausalConv1d<'a>, TorchError> {
        Ok(CausalConv1d {
            x: view(NAME, "x", x)?,
            weight: view(NAME, "conv_weight", self.conv_weight)?,
            bias: Some(view(NAME, "conv_bias", self.conv_bias)?),
            silu: true,
            token_map,
        })
    }

    /// u, `[batch, token, channel]`.
    pub(super) fn convolve(&self, x: &Tensor, token_map: Option<&TokenMap>) -> Result<Tensor, TorchError> {
        let mut u = Tensor::f_empty(x.size(), (x.kind(), x.device()))?;
        causal_conv1d::forward(&queue(x)?, &self.convolution(x, token_map)?, view_mut(NAME, "u", &mut u)?)?;
        Ok(u)
    }

    /// Overwrites `grad_x`; returns the gradients of weight and bias.
    pub(super) fn convolve_backward(
        &self,
        x: &Tensor,
        token_map: Option<&TokenMap>,
        grad_u: &Tensor,
        grad_x: &mut Tensor,
    ) -> Result<[Tensor; 2], TorchError> {
        let (mut grad_weight, mut grad_bias) = (empty(self.conv_weight)?, empty(self.conv_bias)?);
        let gradients = CausalConv1dGradients {
            x: view_mut(NAME, "grad x", grad_x)?,
            weight: view_mut(NAME, "grad conv_weight", &mut grad_weight)?,
            bias: Some(view_mut(NAME, "grad conv_bias", &mut grad_bias)?),
        };
        let convolution = self.convolution(x, token_map)?;
        causal_conv1d::backward(&queue(x)?, &convolution, &view(NAME, "grad u", grad_u)?, gradients)?;
        Ok([grad_weight, grad_bias])
    }
}

/// What the scan reads; A is −exp(a_log).
pub(super) struct ScanTensors {
    pub(super) u: Tensor,
    pub(super) delta: Tensor,
    pub(super) a: Tensor,
    pub(super) b: Tensor,
    pub(super) c: Tensor,
    pub(super) z: Tensor,
}

impl ScanTensors {
    /// Those of some neighbouring tokens.
    pub(super) fn tokens(&self, first: i64, count: i64) -> Result<Self, TorchError> {
        let part = |tensor: &Tensor| tensor.f_narrow(1, first, count);
        let [u, delta, b, c] = [part(&self.u)?, part(&self.delta)?, part(&self.b)?, part(&self.c)?];
        Ok(Self { u, delta, a: self.a.shallow_clone(), b, c, z: part(&self.z)? })
    }

    pub(super) fn arguments<'a>(
        &'a self,
        vectors: &Vectors<'a>,
        token_map: Option<&'a TokenMap>,
        initial_state: Option<&'a Tensor>,
    ) -> Result<SelectiveScan<'a>, TorchError> {
        Ok(SelectiveScan {
            u: view(NAME, "u", &self.u)?,
            delta: view(NAME, "delta", &self.delta)?,
            a: view(NAME, "a", &self.a)?,
            b: view(NAME, "b", &self.b)?,
            c: view(NAME, "c", &self.c)?,
            d: Some(view(NAME, "d", vectors.d)?),
            z: Some(view(NAME, "z", &self.z)?),
            delta_bias: Some(view(NAME, "delta_bias", vectors.delta_bias)?),
            initial_state: initial_state.map(|state| view(NAME, "initial_state", state)).transpose()?,
            delta_softplus: true,
            token_map,
        })
    }

    /// Runs `scan`, whose views are of these tensors, into `y`.
    pub(super) fn run(
        &self,
        scan: &SelectiveScan<'_>,
        y: &mut Tensor,
        last_state: Option<&mut Tensor>,
    ) -> Result<(), TorchError> {
        let last_state = last_state.map(|state| view_mut(NAME, "last_state", state)).transpose()?;
        Ok(selective_scan::forward(&queue(&self.u)?, scan, view_mut(NAME, "y", y)?, last_state)?)
    }

    /// Goes back through `scan`, whose views are of these tensors.
    pub(super) fn backward(
        &self,
        scan: &SelectiveScan<'_>,
        vectors: &Vectors<'_>,
        grad_y: &Tensor,
        ends: GradientsOfEnds<'_>,
        mut into: ScanGradients,
    ) -> Result<VectorGradients, TorchError> {
        let (mut a, mut d, mut delta_bias) = (empty(&self.a)?, empty(vectors.d)?, empty(vectors.delta_bias)?);
        let initial_state = ends.initial_state.map(|state| view_mut(NAME, "grad initial_state", state)).transpose()?;
        let gradients = SelectiveScanGradients {
            u: view_mut(NAME, "grad u", &mut into.u)?,
            delta: view_mut(NAME, "grad delta", &mut into.delta)?,
            a: view_mut(NAME, "grad a", &mut a)?,
            b: view_mut(NAME, "grad b", &mut into.b)?,
            c: view_mut(NAME, "grad c", &mut into.c)?,
            d: Some(view_mut(NAME, "grad d", &mut d)?),
            z: Some(view_mut(NAME, "grad z", &mut into.z)?),
            delta_bias: Some(view_mut(NAME, "grad delta_bias", &mut delta_bias)?),
            initial_state,
        };
        let last_state = ends.last_state.map(|state| view(NAME, "grad last_state", state)).transpose()?;
        let grad_y = view(NAME, "grad y", grad_y)?;
        selective_scan::backward(&queue(&self.u)?, scan, &grad_y, last_state.as_ref(), gradients)?;
        Ok(VectorGradients { a, d, delta_bias })
    }
}

/// Where the gradients of the tensors with tokens go: buffers that nobody has written yet, or parts of them.
pub(super) struct ScanGradients {
    pub(super) u: Tensor,
    pub(super) delta: Tensor,
    pub(super) b: Tensor,
    pub(super) c: Tensor,
    pub(super) z: Tensor,
}

impl ScanGradients {
    /// Those of some neighbouring tokens.
    pub(super) fn tokens(&self, first: i64, count: i64) -> Result<Self, TorchError> {
        let part = |tensor: &Tensor| tensor.f_narrow(1, first, count);
        let [u, delta, b, c] = [part(&self.u)?, part(&self.delta)?, part(&self.b)?, part(&self.c)?];
        Ok(Self { u, delta, b, c, z: part(&self.z)? })
    }
}

/// Gradients by the states at both ends of a scan: that by the last is read, that by the first overwritten.
#[derive(Default)]
pub(super) struct GradientsOfEnds<'a> {
    pub(super) last_state: Option<&'a Tensor>,
    pub(super) initial_state: Option<&'a mut Tensor>,
}

/// Gradients of the tensors without tokens.
pub(super) struct VectorGradients {
    /// Of A itself.
    pub(super) a: Tensor,
    pub(super) d: Tensor,
    pub(super) delta_bias: Tensor,
}

impl VectorGradients {
    /// The sum of both.
    pub(super) fn plus(self, other: &Self) -> Result<Self, TorchError> {
        let Self { mut a, mut d, mut delta_bias } = self;
        let _ = (a.f_add_(&other.a)?, d.f_add_(&other.d)?, delta_bias.f_add_(&other.delta_bias)?);
        Ok(Self { a, d, delta_bias })
    }
}

/// An unwritten tensor of the same form.
pub(super) fn empty(like: &Tensor) -> Result<Tensor, TorchError> {
    Ok(Tensor::f_empty(like.size(), (like.kind(), like.device()))?)
}
