//! A linear map whose weights are kept in one precision and computed with in another.

use tch::{Kind, Tensor};

use super::{Projection, with_contiguous_channels};
use crate::{
    TorchError,
    custom_function::{CustomFunction, Forward, apply},
};

/// `x · weightᵀ + bias`, `[…, inputs]` → `[…, outputs]`, in the kind of `x`, which is that of the computed weights.
///
/// The chain of a conversion and a product would convert every weight in every pass, and keep the copy until backward.
///
/// # Errors
/// Shapes or kinds that do not fit.
pub fn linear(x: &Tensor, weight: Projection, bias: Option<Projection>) -> Result<Tensor, TorchError> {
    let bias_computed = bias.map(|bias| bias.computed.detach());
    if !weight.weight.requires_grad() && bias.is_none_or(|bias| !bias.weight.requires_grad()) {
        return Ok(x.f_linear(weight.computed, bias_computed.as_ref())?);
    }
    let operation = Operation { weight: weight.computed.detach(), bias: bias_computed };
    let x = with_contiguous_channels(x);
    let tensors: Vec<&Tensor> = [&x, weight.weight].into_iter().chain(bias.as_ref().map(|bias| bias.weight)).collect();
    let output = apply(operation, &tensors)?.into_iter().next();
    output.ok_or_else(|| TorchError::Libtorch("the linear map returned no output".to_owned()))
}

/// What the node remembers besides `x`: what was computed with.
struct Operation {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl CustomFunction for Operation {
    const NAME: &'static str = "linear";

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let output = inputs[0].f_linear(&self.weight, self.bias.as_ref())?;
        Ok(Forward { outputs: vec![output], saved: vec![inputs[0].shallow_clone()] })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let inputs = 2 + usize::from(self.bias.is_some());
        let Some(Some(grad_out)) = grad_outputs.first() else { return Ok((0..inputs).map(|_| None).collect()) };
        let grad_rows = grad_out.f_reshape([-1, self.weight.size()[0]])?;
        let rows = saved[0].f_reshape([-1, self.weight.size()[1]])?;
        let needs = |index: usize| needs_gradient.get(index).copied().unwrap_or(false);
        let f32 = |tensor: Tensor| tensor.to_kind(Kind::Float);
        let mut gradients = vec![
            needs(0).then(|| grad_rows.f_mm(&self.weight)?.f_view_as(&saved[0])).transpose()?,
            needs(1).then(|| grad_rows.f_tr()?.f_mm(&rows).map(f32)).transpose()?,
        ];
        if self.bias.is_some() {
            let sum = || grad_rows.f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Float);
            gradients.push(needs(2).then(sum).transpose()?);
        }
        Ok(gradients)
    }
}
