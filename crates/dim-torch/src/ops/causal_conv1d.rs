//! Causal depthwise convolution with SiLU as a differentiable operation. Source: Gu & Dao 2023 (arXiv 2312.00752),
//! figure 3.

use dim_kernels::causal_conv1d::{self as kernel, CausalConv1d, CausalConv1dGradients};
use tch::Tensor;

use super::with_contiguous_channels;
use crate::{
    TokenMap, TorchError,
    bridge::{queue, view, view_mut},
    custom_function::{CustomFunction, Forward, apply},
};

const NAME: &str = "causal_conv1d";

/// The tensors of a causal depthwise convolution. `x`: `[batch, token, channel]`; `weight`: `[channel, width]`, its
/// last column on the present token; `bias`: `[channel]`.
#[derive(Clone, Copy)]
pub struct CausalConv1dInputs<'a> {
    /// Input.
    pub x: &'a Tensor,
    /// One filter a channel.
    pub weight: &'a Tensor,
    /// Added before the activation.
    pub bias: Option<&'a Tensor>,
    /// Whether the result goes through SiLU.
    pub silu: bool,
}

/// The convolution along the order of `token_map`, `[batch, token, channel]` in the tokens' own order.
///
/// # Errors
/// A shape, type or device that the kernel does not take, named in the error.
pub fn causal_conv1d(inputs: &CausalConv1dInputs, token_map: Option<&TokenMap>) -> Result<Tensor, TorchError> {
    let operation = Operation { has_bias: inputs.bias.is_some(), silu: inputs.silu, token_map: token_map.cloned() };
    let tensors: Vec<Tensor> = [Some(inputs.x), Some(inputs.weight), inputs.bias]
        .into_iter()
        .flatten()
        .map(with_contiguous_channels)
        .collect();
    let outputs = apply(operation, &tensors.iter().collect::<Vec<_>>())?;
    outputs.into_iter().next().ok_or_else(|| TorchError::Libtorch("the convolution returned no output".to_owned()))
}

/// What the node remembers besides tensors: x, weight and, if present, bias.
struct Operation {
    has_bias: bool,
    silu: bool,
    token_map: Option<TokenMap>,
}

impl Operation {
    fn convolution<'a>(&'a self, tensors: &'a [Tensor]) -> Result<CausalConv1d<'a>, TorchError> {
        Ok(CausalConv1d {
            x: view(NAME, "x", &tensors[0])?,
            weight: view(NAME, "weight", &tensors[1])?,
            bias: self.has_bias.then(|| view(NAME, "bias", &tensors[2])).transpose()?,
            silu: self.silu,
            token_map: self.token_map.as_ref(),
        })
    }
}

impl CustomFunction for Operation {
    const NAME: &'static str = NAME;

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let x = &inputs[0];
        let mut out = Tensor::f_empty(x.size(), (x.kind(), x.device()))?;
        kernel::forward(&queue(x)?, &self.convolution(inputs)?, view_mut(NAME, "out", &mut out)?)?;
        Ok(Forward { outputs: vec![out], saved: inputs.iter().map(Tensor::shallow_clone).collect() })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        _needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let Some(Some(grad_out)) = grad_outputs.first() else {
            return Ok(saved.iter().map(|_| None).collect());
        };
        let grad_out = with_contiguous_channels(grad_out);
        let mut gradients = saved
            .iter()
            .map(|input| Tensor::f_empty(input.size(), (input.kind(), input.device())))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rest = gradients.iter_mut();
        let mut next = |argument| rest.next().map(|tensor| view_mut(NAME, argument, tensor)).transpose();
        let missing = || TorchError::Libtorch("a gradient buffer is missing".to_owned());
        let views = CausalConv1dGradients {
            x: next("grad x")?.ok_or_else(missing)?,
            weight: next("grad weight")?.ok_or_else(missing)?,
            bias: next("grad bias")?,
        };
        kernel::backward(&queue(&saved[0])?, &self.convolution(saved)?, &view(NAME, "grad_out", &grad_out)?, views)?;
        Ok(gradients.into_iter().map(Some).collect())
    }
}
