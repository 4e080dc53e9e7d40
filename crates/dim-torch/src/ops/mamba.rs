//! A whole Mamba layer as one differentiable operation. Source: Gu & Dao 2023 (arXiv 2312.00752), section 3.4.
//!
//! ```text
//! x, z = input in_projᵀ      u = silu(conv(x))      low, B, C = u x_projᵀ      delta = low dt_projᵀ
//! out = scan(u, delta, −exp(a_log), B, C, d, z) out_projᵀ
//! ```
//!
//! As a chain of operations the layer would keep u and delta for its backward pass, join the gradients of both halves of the
//! first product by a copy, and cut and add those of the parts of the third. Here u and delta are computed again, and every
//! gradient is written where the next product reads it.

use dim_kernels::causal_conv1d::{self, CausalConv1d, CausalConv1dGradients};
use dim_kernels::selective_scan::{self, SelectiveScan, SelectiveScanGradients};
use tch::{Kind, Tensor};

use super::with_contiguous_channels;
use crate::{
    TokenMap, TorchError,
    bridge::{queue, view, view_mut},
    custom_function::{CustomFunction, Forward, apply},
};

const NAME: &str = "mamba";

/// A linear map without a bias.
#[derive(Clone, Copy)]
pub struct Projection<'a> {
    /// `[outputs, inputs]` f32, which gets the gradient.
    pub weight: &'a Tensor,
    /// The same numbers in the kind of the activations, which the products read: the weight itself, or a copy that is not
    /// written before the backward pass is over.
    pub computed: &'a Tensor,
}

/// The tensors of a Mamba layer with E channels, N states and a step size of rank R. What is no activation is f32.
#[derive(Clone, Copy)]
pub struct MambaInputs<'a> {
    /// `[batch, token, d_model]`.
    pub input: &'a Tensor,
    /// `[2 E, d_model]`.
    pub in_proj: Projection<'a>,
    /// `[E, width]`.
    pub conv_weight: &'a Tensor,
    /// `[E]`.
    pub conv_bias: &'a Tensor,
    /// `[R + 2 N, E]`.
    pub x_proj: Projection<'a>,
    /// `[E, R]`.
    pub dt_proj: Projection<'a>,
    /// `[E]`, added to the step size before its softplus.
    pub delta_bias: &'a Tensor,
    /// `[E, N]`.
    pub a_log: &'a Tensor,
    /// −exp(`a_log`), without gradient, not written before the backward pass is over.
    pub a: &'a Tensor,
    /// `[E]`.
    pub d: &'a Tensor,
    /// `[d_model, E]`.
    pub out_proj: Projection<'a>,
}

/// What the layer keeps for its backward pass, beside its input and the first and third product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MambaKeeps {
    /// What the scan puts out, E values a token.
    #[default]
    ScanOutput,
    /// Nothing more: the scan runs again.
    Nothing,
}

/// The layer's output, `[batch, token, d_model]`; convolution and scan walk along `token_map`.
///
/// # Errors
/// A shape, type or device that a kernel does not take, named in the error.
pub fn mamba(inputs: &MambaInputs, token_map: Option<&TokenMap>, keeps: MambaKeeps) -> Result<Tensor, TorchError> {
    let MambaInputs { input, in_proj, conv_weight, conv_bias, x_proj, dt_proj, delta_bias, a_log, a, d, out_proj } =
        *inputs;
    let operation = Operation {
        weights: [in_proj, x_proj, dt_proj, out_proj].map(|projection| projection.computed.detach()),
        a: a.detach(),
        token_map: token_map.cloned(),
        keeps,
    };
    let input = with_contiguous_channels(input);
    let tensors = [
        &input,
        in_proj.weight,
        conv_weight,
        conv_bias,
        x_proj.weight,
        dt_proj.weight,
        delta_bias,
        a_log,
        d,
        out_proj.weight,
    ];
    let output = apply(operation, &tensors)?.into_iter().next();
    output.ok_or_else(|| TorchError::Libtorch("the Mamba layer returned no output".to_owned()))
}

/// What the node remembers besides tensors: the four weights in the kind of the activations, in their order, and A.
struct Operation {
    weights: [Tensor; 4],
    a: Tensor,
    token_map: Option<TokenMap>,
    keeps: MambaKeeps,
}

/// The small tensors of the layer.
struct Vectors<'a> {
    conv_weight: &'a Tensor,
    conv_bias: &'a Tensor,
    delta_bias: &'a Tensor,
    a_log: &'a Tensor,
    d: &'a Tensor,
}

/// Half of the first product, or a part of the third.
fn columns(tensor: &Tensor, first: i64, count: i64) -> Result<Tensor, TorchError> {
    Ok(tensor.f_narrow(-1, first, count)?)
}

/// `[batch, token, value]` as a matrix.
fn rows(tensor: &Tensor) -> Result<Tensor, TorchError> {
    Ok(tensor.f_flatten(0, 1)?)
}

impl Operation {
    /// Channels, rank of the step size and states.
    fn sizes(&self, a_log: &Tensor) -> (i64, i64, i64) {
        let (channels, states) = (a_log.size()[0], a_log.size()[1]);
        (channels, self.weights[2].size()[1], states)
    }

    fn convolution<'a>(&'a self, x: &'a Tensor, vectors: &Vectors<'a>) -> Result<CausalConv1d<'a>, TorchError> {
        Ok(CausalConv1d {
            x: view(NAME, "x", x)?,
            weight: view(NAME, "conv_weight", vectors.conv_weight)?,
            bias: Some(view(NAME, "conv_bias", vectors.conv_bias)?),
            silu: true,
            token_map: self.token_map.as_ref(),
        })
    }

    fn convolve(&self, x: &Tensor, vectors: &Vectors) -> Result<Tensor, TorchError> {
        let mut u = Tensor::f_empty(x.size(), (x.kind(), x.device()))?;
        causal_conv1d::forward(&queue(x)?, &self.convolution(x, vectors)?, view_mut(NAME, "u", &mut u)?)?;
        Ok(u)
    }

    /// What the scan reads, from what was kept or computed again.
    fn scan_inputs(
        &self,
        xz: &Tensor,
        u: Tensor,
        projected: &Tensor,
        vectors: &Vectors,
    ) -> Result<ScanTensors, TorchError> {
        let (channels, rank, states) = self.sizes(vectors.a_log);
        let delta = columns(projected, 0, rank)?.f_linear(&self.weights[2], None::<&Tensor>)?;
        Ok(ScanTensors {
            u,
            delta,
            a: self.a.shallow_clone(),
            b: columns(projected, rank, states)?,
            c: columns(projected, rank + states, states)?,
            z: columns(xz, channels, channels)?,
        })
    }

    fn scan<'a>(&'a self, tensors: &'a ScanTensors, vectors: &Vectors<'a>) -> Result<SelectiveScan<'a>, TorchError> {
        Ok(SelectiveScan {
            u: view(NAME, "u", &tensors.u)?,
            delta: view(NAME, "delta", &tensors.delta)?,
            a: view(NAME, "a", &tensors.a)?,
            b: view(NAME, "b", &tensors.b)?,
            c: view(NAME, "c", &tensors.c)?,
            d: Some(view(NAME, "d", vectors.d)?),
            z: Some(view(NAME, "z", &tensors.z)?),
            delta_bias: Some(view(NAME, "delta_bias", vectors.delta_bias)?),
            initial_state: None,
            delta_softplus: true,
            token_map: self.token_map.as_ref(),
        })
    }

    fn run_scan(&self, tensors: &ScanTensors, vectors: &Vectors) -> Result<Tensor, TorchError> {
        let mut y = Tensor::f_empty(tensors.u.size(), (tensors.u.kind(), tensors.u.device()))?;
        selective_scan::forward(
            &queue(&tensors.u)?,
            &self.scan(tensors, vectors)?,
            view_mut(NAME, "y", &mut y)?,
            None,
        )?;
        Ok(y)
    }
}

/// What the scan reads; A is −exp(a_log).
struct ScanTensors {
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    z: Tensor,
}

impl CustomFunction for Operation {
    const NAME: &'static str = NAME;

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let [input, _, conv_weight, conv_bias, _, _, delta_bias, a_log, d, _] = inputs else {
            return Err(wrong_number());
        };
        let vectors = Vectors { conv_weight, conv_bias, delta_bias, a_log, d };
        let (channels, ..) = self.sizes(a_log);
        let xz = input.f_linear(&self.weights[0], None::<&Tensor>)?;
        let u = self.convolve(&columns(&xz, 0, channels)?, &vectors)?;
        // One product gives the step size's low-rank form, B and C; the scan reads them where they lie.
        let projected = u.f_linear(&self.weights[1], None::<&Tensor>)?;
        let y = self.run_scan(&self.scan_inputs(&xz, u, &projected, &vectors)?, &vectors)?;
        let out = y.f_linear(&self.weights[3], None::<&Tensor>)?;
        let mut saved = vec![input.shallow_clone(), xz, projected];
        saved.extend([conv_weight, conv_bias, delta_bias, a_log, d].map(Tensor::shallow_clone));
        if self.keeps == MambaKeeps::ScanOutput {
            saved.push(y);
        }
        Ok(Forward { outputs: vec![out], saved })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        _needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let [input, xz, projected, conv_weight, conv_bias, delta_bias, a_log, d, kept @ ..] = saved else {
            return Err(wrong_number());
        };
        let Some(Some(grad_out)) = grad_outputs.first() else {
            return Ok((0..INPUTS).map(|_| None).collect());
        };
        let vectors = Vectors { conv_weight, conv_bias, delta_bias, a_log, d };
        let (channels, rank, states) = self.sizes(a_log);
        let grad_out = with_contiguous_channels(grad_out);
        let empty = |like: &Tensor| Tensor::f_empty(like.size(), (like.kind(), like.device()));

        let x = columns(xz, 0, channels)?;
        let tensors = self.scan_inputs(xz, self.convolve(&x, &vectors)?, projected, &vectors)?;
        let grad_rows = rows(&grad_out)?;
        let grad_out_proj = {
            let y = kept.first().map_or_else(|| self.run_scan(&tensors, &vectors), |y| Ok(y.shallow_clone()))?;
            grad_rows.f_tr()?.f_mm(&rows(&y)?)?
        };
        let grad_y = grad_out.f_matmul(&self.weights[3])?;

        // The gradients of both halves, and of the three parts, stand side by side, as what they are gradients of.
        let (grad_xz, grad_projected) = (empty(xz)?, empty(projected)?);
        let mut grad_u = empty(&tensors.u)?;
        let mut grad_delta = empty(&tensors.delta)?;
        let (mut grad_a, mut grad_d, mut grad_delta_bias) = (empty(a_log)?, empty(d)?, empty(delta_bias)?);
        let mut grad_b = columns(&grad_projected, rank, states)?;
        let mut grad_c = columns(&grad_projected, rank + states, states)?;
        let mut grad_z = columns(&grad_xz, channels, channels)?;
        let gradients = SelectiveScanGradients {
            u: view_mut(NAME, "grad u", &mut grad_u)?,
            delta: view_mut(NAME, "grad delta", &mut grad_delta)?,
            a: view_mut(NAME, "grad a", &mut grad_a)?,
            b: view_mut(NAME, "grad b", &mut grad_b)?,
            c: view_mut(NAME, "grad c", &mut grad_c)?,
            d: Some(view_mut(NAME, "grad d", &mut grad_d)?),
            z: Some(view_mut(NAME, "grad z", &mut grad_z)?),
            delta_bias: Some(view_mut(NAME, "grad delta_bias", &mut grad_delta_bias)?),
            initial_state: None,
        };
        let scan = self.scan(&tensors, &vectors)?;
        selective_scan::backward(&queue(xz)?, &scan, &view(NAME, "grad y", &grad_y)?, None, gradients)?;
        drop(grad_y);
        let grad_a_log = grad_a.f_mul(&tensors.a)?;

        let (grad_projected, grad_delta) = (rows(&grad_projected)?, rows(&grad_delta)?);
        // Writes into the columns that belong to it.
        let _ = grad_delta.f_mm_out(&columns(&grad_projected, 0, rank)?, &self.weights[2])?;
        let grad_dt_proj = grad_delta.f_tr()?.f_mm(&columns(&rows(projected)?, 0, rank)?)?;
        drop(grad_delta);
        let _ = rows(&grad_u)?.f_addmm_(&grad_projected, &self.weights[1])?;
        let grad_x_proj = grad_projected.f_tr()?.f_mm(&rows(&tensors.u)?)?;

        let (mut grad_conv_weight, mut grad_conv_bias) = (empty(conv_weight)?, empty(conv_bias)?);
        let mut grad_x = columns(&grad_xz, 0, channels)?;
        let gradients = CausalConv1dGradients {
            x: view_mut(NAME, "grad x", &mut grad_x)?,
            weight: view_mut(NAME, "grad conv_weight", &mut grad_conv_weight)?,
            bias: Some(view_mut(NAME, "grad conv_bias", &mut grad_conv_bias)?),
        };
        let convolution = self.convolution(&x, &vectors)?;
        causal_conv1d::backward(&queue(xz)?, &convolution, &view(NAME, "grad u", &grad_u)?, gradients)?;
        let grad_in_proj = rows(&grad_xz)?.f_tr()?.f_mm(&rows(input)?)?;
        let grad_input = grad_xz.f_matmul(&self.weights[0])?;

        let f32 = |tensor: Tensor| Some(tensor.to_kind(Kind::Float));
        Ok(vec![
            Some(grad_input),
            f32(grad_in_proj),
            Some(grad_conv_weight),
            Some(grad_conv_bias),
            f32(grad_x_proj),
            f32(grad_dt_proj),
            Some(grad_delta_bias),
            Some(grad_a_log),
            Some(grad_d),
            f32(grad_out_proj),
        ])
    }
}

/// Tensors that the node takes.
const INPUTS: usize = 10;

fn wrong_number() -> TorchError {
    TorchError::Libtorch(format!("a Mamba layer takes {INPUTS} tensors"))
}
