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

mod kernels;
mod sequence;
mod strip;

use tch::Tensor;

use super::linear::product;
use super::weight_gradient::WeightGradient;
use super::with_contiguous_channels;
use crate::{
    TokenMap, TorchError,
    custom_function::{CustomFunction, Forward, apply},
    distributed::World,
};
use kernels::{ScanGradients, ScanTensors, VectorGradients, Vectors, empty};
use sequence::{Sequence, Whole};
use strip::OfStrip;
pub use strip::Strip;

const NAME: &str = "mamba";

/// A linear map without a bias.
#[derive(Clone, Copy)]
pub struct Projection<'a> {
    /// `[outputs, inputs]` f32, which gets the gradient.
    pub weight: &'a Tensor,
    /// The same numbers in the kind of the activations, which the products read: the weight itself, or a copy that is not
    /// written before the backward pass is over.
    pub computed: &'a Tensor,
    /// Where the gradients of the weight are summed up, f32 and as large as it: the operation then adds them there itself, with less
    /// traffic than autograd needs. `None` leaves that to autograd.
    pub sum: Option<&'a Tensor>,
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
    run(inputs, Whole(token_map.cloned()), keeps)
}

/// The layer's output for this process's part of a sequence that is split over all of `world`, `[batch, token, d_model]`. All its processes call it
/// together, and go back through it together: the gradients are those of a loss that is the sum of what each makes of its own output.
///
/// # Errors
/// As [`mamba`]; [`TorchError::LostPeer`].
pub fn mamba_of_strip(
    inputs: &MambaInputs,
    strip: &Strip,
    world: &World,
    keeps: MambaKeeps,
) -> Result<Tensor, TorchError> {
    run(inputs, OfStrip { strip: strip.shallow_clone(), world: world.clone() }, keeps)
}

fn run<S: Sequence>(inputs: &MambaInputs, sequence: S, keeps: MambaKeeps) -> Result<Tensor, TorchError> {
    let MambaInputs { input, in_proj, conv_weight, conv_bias, x_proj, dt_proj, delta_bias, a_log, a, d, out_proj } =
        *inputs;
    let operation = Operation {
        weights: [in_proj, x_proj, dt_proj, out_proj].map(|projection| projection.computed.detach()),
        gradients: [in_proj, x_proj, dt_proj, out_proj].map(|projection| WeightGradient::of(&projection)),
        a: a.detach(),
        sequence,
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

/// What the node remembers besides tensors: the four weights in the kind of the activations and where their gradients go, in their order, and A.
struct Operation<S> {
    weights: [Tensor; 4],
    gradients: [WeightGradient; 4],
    a: Tensor,
    sequence: S,
    keeps: MambaKeeps,
}

/// Half of the first product, or a part of the third.
fn columns(tensor: &Tensor, first: i64, count: i64) -> Result<Tensor, TorchError> {
    Ok(tensor.f_narrow(-1, first, count)?)
}

/// `[batch, token, value]` as a matrix.
fn rows(tensor: &Tensor) -> Result<Tensor, TorchError> {
    Ok(tensor.f_flatten(0, 1)?)
}

impl<S> Operation<S> {
    /// Channels, rank of the step size and states.
    fn sizes(&self) -> (i64, i64, i64) {
        let (channels, states) = (self.a.size()[0], self.a.size()[1]);
        (channels, self.weights[2].size()[1], states)
    }

    /// What the scan reads, from what was kept or computed again.
    fn scan_inputs(&self, xz: &Tensor, u: Tensor, projected: &Tensor) -> Result<ScanTensors, TorchError> {
        let (channels, rank, states) = self.sizes();
        let delta = product(&columns(projected, 0, rank)?, &self.weights[2], None)?;
        Ok(ScanTensors {
            u,
            delta,
            a: self.a.shallow_clone(),
            b: columns(projected, rank, states)?,
            c: columns(projected, rank + states, states)?,
            z: columns(xz, channels, channels)?,
        })
    }
}

impl<S: Sequence> CustomFunction for Operation<S> {
    const NAME: &'static str = S::NAME;

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let [input, _, conv_weight, conv_bias, _, _, delta_bias, _, d, _] = inputs else {
            return Err(wrong_number());
        };
        let vectors = Vectors { conv_weight, conv_bias, delta_bias, d };
        let (channels, ..) = self.sizes();
        let coming = self.sequence.begin(input, &self.weights[0])?;
        let xz = product(input, &self.weights[0], None)?;
        let (u, kept_of_convolution) = self.sequence.convolve(coming, &columns(&xz, 0, channels)?, &vectors)?;
        // One product gives the step size's low-rank form, B and C; the scan reads them where they lie.
        let projected = product(&u, &self.weights[1], None)?;
        let (y, kept_of_scan) = self.sequence.scan(&self.scan_inputs(&xz, u, &projected)?, &vectors)?;
        let out = product(&y, &self.weights[3], None)?;
        let mut saved = vec![input.shallow_clone(), xz, projected];
        saved.extend([conv_weight, conv_bias, delta_bias, d].map(Tensor::shallow_clone));
        saved.extend(kept_of_convolution);
        saved.extend(kept_of_scan);
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
        let [input, xz, projected, conv_weight, conv_bias, delta_bias, d, kept @ ..] = saved else {
            return Err(wrong_number());
        };
        let (of_convolution, kept) = kept.split_at_checked(S::KEPT_OF_CONVOLUTION).ok_or_else(wrong_number)?;
        let (of_scan, y) = kept.split_at_checked(S::KEPT_OF_SCAN).ok_or_else(wrong_number)?;
        let Some(Some(grad_out)) = grad_outputs.first() else {
            return Ok((0..INPUTS).map(|_| None).collect());
        };
        let vectors = Vectors { conv_weight, conv_bias, delta_bias, d };
        let (channels, rank, states) = self.sizes();
        let grad_out = with_contiguous_channels(grad_out);

        let x = columns(xz, 0, channels)?;
        let u = self.sequence.convolve_again(&x, &vectors, of_convolution)?;
        let tensors = self.scan_inputs(xz, u, projected)?;
        let grad_rows = rows(&grad_out)?;
        let grad_y = grad_out.f_matmul(&self.weights[3])?;
        // Last before the scan: with it gradients of other layers may leave for other processes, and the scan suffers least from that.
        let grad_out_proj = {
            let again = || self.sequence.scan_again(&tensors, &vectors, of_scan);
            let y = y.first().map_or_else(again, |y| Ok(y.shallow_clone()))?;
            self.gradients[3].add(&grad_rows, &rows(&y)?)?
        };

        // The gradients of both halves, and of the three parts, stand side by side, as what they are gradients of.
        let (grad_xz, grad_projected) = (empty(xz)?, empty(projected)?);
        let (grad_u, grad_delta) = (empty(&tensors.u)?, empty(&tensors.delta)?);
        let into = ScanGradients {
            u: grad_u.shallow_clone(),
            delta: grad_delta.shallow_clone(),
            b: columns(&grad_projected, rank, states)?,
            c: columns(&grad_projected, rank + states, states)?,
            z: columns(&grad_xz, channels, channels)?,
        };
        let VectorGradients { a: grad_a, d: grad_d, delta_bias: grad_delta_bias } =
            self.sequence.scan_backward(&tensors, &vectors, of_scan, &grad_y, into)?;
        drop(grad_y);
        let grad_a_log = grad_a.f_mul(&tensors.a)?;

        let (grad_projected, grad_delta) = (rows(&grad_projected)?, rows(&grad_delta)?);
        // Writes into the columns that belong to it.
        let _ = grad_delta.f_mm_out(&columns(&grad_projected, 0, rank)?, &self.weights[2])?;
        let grad_dt_proj = self.gradients[2].add(&grad_delta, &columns(&rows(projected)?, 0, rank)?)?;
        drop(grad_delta);
        let _ = rows(&grad_u)?.f_addmm_(&grad_projected, &self.weights[1])?;
        let grad_x_proj = self.gradients[1].add(&grad_projected, &rows(&tensors.u)?)?;

        let mut grad_x = columns(&grad_xz, 0, channels)?;
        let [grad_conv_weight, grad_conv_bias] =
            self.sequence.convolve_backward(&x, &vectors, of_convolution, grad_u, &mut grad_x)?;
        let grad_in_proj = self.gradients[0].add(&rows(&grad_xz)?, &rows(input)?)?;
        let grad_input = grad_xz.f_matmul(&self.weights[0])?;

        Ok(vec![
            Some(grad_input),
            grad_in_proj,
            Some(grad_conv_weight),
            Some(grad_conv_bias),
            grad_x_proj,
            grad_dt_proj,
            Some(grad_delta_bias),
            Some(grad_a_log),
            Some(grad_d),
            grad_out_proj,
        ])
    }
}

/// Tensors that the node takes.
const INPUTS: usize = 10;

fn wrong_number() -> TorchError {
    TorchError::Libtorch(format!("a Mamba layer takes {INPUTS} tensors"))
}
