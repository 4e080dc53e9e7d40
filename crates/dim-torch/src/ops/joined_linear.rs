//! The sum of two linear maps of two inputs, as one map of both side by side. Source: U-Net skips in transformers, Bao et al. 2022
//! (arXiv 2209.12152), section 3.1.
//!
//! As a chain of operations both inputs would be copied together, or both products be written and read again to be added.

use tch::{Kind, Tensor};

use super::{Projection, weight_gradient::WeightGradient, with_contiguous_channels};
use crate::{
    TorchError,
    custom_function::{CustomFunction, Forward, apply},
};

/// The parameters of the map.
#[derive(Clone, Copy)]
pub enum JoinWeights<'a> {
    /// Of the inputs side by side.
    One {
        /// `[outputs, inputs of the first + inputs of the second]`.
        weight: Projection<'a>,
        /// `[outputs]`, f32, which gets the gradient.
        bias: &'a Tensor,
    },
    /// Of each input.
    Two {
        /// `[outputs, inputs]` each.
        weights: [Projection<'a>; 2],
        /// `[outputs]` each, f32, which get the gradient.
        biases: [&'a Tensor; 2],
    },
}

/// `first · W₁ᵀ + second · W₂ᵀ + bias`, `[…, inputs]` each → `[…, outputs]`, in the kind of the inputs, which is that of the computed
/// weights and of `bias`, the parameters' bias or the sum of both.
///
/// # Errors
/// Shapes or kinds that do not fit.
pub fn joined_linear(
    first: &Tensor,
    second: &Tensor,
    weights: &JoinWeights,
    bias: &Tensor,
) -> Result<Tensor, TorchError> {
    let [first, second] = [first, second].map(with_contiguous_channels);
    let (halves, gradients, parameters): (_, _, Vec<&Tensor>) = match weights {
        JoinWeights::One { weight, bias } => {
            let computed = weight.computed.detach();
            let inputs = last_size(&first);
            let halves = [computed.f_narrow(1, 0, inputs)?, computed.f_narrow(1, inputs, last_size(&second))?];
            (halves, vec![WeightGradient::of(weight)], vec![weight.weight, bias])
        }
        JoinWeights::Two { weights, biases } => {
            let halves = weights.map(|weight| weight.computed.detach());
            let gradients = weights.iter().map(WeightGradient::of).collect();
            (halves, gradients, vec![weights[0].weight, weights[1].weight, biases[0], biases[1]])
        }
    };
    let operation = Operation { weights: halves, gradients, bias: bias.detach() };
    let tensors: Vec<&Tensor> = [&first, &second].into_iter().chain(parameters).collect();
    if tensors.iter().all(|tensor| !tensor.requires_grad()) {
        return operation.run(&first, &second);
    }
    let output = apply(operation, &tensors)?.into_iter().next();
    output.ok_or_else(|| TorchError::Libtorch("the joined map returned no output".to_owned()))
}

fn last_size(tensor: &Tensor) -> i64 {
    tensor.size().last().copied().unwrap_or(0)
}

/// `[…, value]` as a matrix.
fn rows(tensor: &Tensor) -> Result<Tensor, TorchError> {
    Ok(tensor.f_reshape([-1, last_size(tensor)])?)
}

/// What the node remembers besides tensors: both weights and the bias in the kind of the inputs, and where the gradient of each
/// parameter goes, of one weight or two.
struct Operation {
    weights: [Tensor; 2],
    gradients: Vec<WeightGradient>,
    bias: Tensor,
}

impl Operation {
    fn run(&self, first: &Tensor, second: &Tensor) -> Result<Tensor, TorchError> {
        let out = first.f_linear(&self.weights[0], Some(&self.bias))?;
        // The second product is added where the first one lies.
        let _ = rows(&out)?.f_addmm_(&rows(second)?, &self.weights[1].f_tr()?)?;
        Ok(out)
    }
}

impl CustomFunction for Operation {
    const NAME: &'static str = "joined_linear";

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let output = self.run(&inputs[0], &inputs[1])?;
        Ok(Forward { outputs: vec![output], saved: inputs.iter().map(Tensor::shallow_clone).collect() })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let Some(Some(grad_out)) = grad_outputs.first() else { return Ok(saved.iter().map(|_| None).collect()) };
        let grad_rows = rows(grad_out)?;
        let needs = |index: usize| needs_gradient.get(index).copied().unwrap_or(false);
        let inputs = [rows(&saved[0])?, rows(&saved[1])?];
        let of_input = |index: usize| -> Result<Option<Tensor>, TorchError> {
            let gradient = || grad_rows.f_mm(&self.weights[index])?.f_view_as(&saved[index]);
            Ok(needs(index).then(gradient).transpose()?)
        };
        let mut gradients = vec![of_input(0)?, of_input(1)?];
        let weights = self.gradients.len();
        let products = inputs.each_ref().map(|rows| (&grad_rows, rows));
        for (index, gradient) in self.gradients.iter().enumerate() {
            // One weight has columns for both inputs, of two each has its own.
            let own = if weights == 1 { &products[..] } else { &products[index..=index] };
            gradients.push(needs(2 + index).then(|| gradient.add_columns(own)).transpose()?.flatten());
        }
        // Every bias is added to the same.
        let of_bias = (0..weights).any(|index| needs(2 + weights + index));
        let of_bias =
            of_bias.then(|| grad_rows.f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Float)).transpose()?;
        gradients.extend(
            (0..weights)
                .map(|index| of_bias.as_ref().filter(|_| needs(2 + weights + index)).map(Tensor::shallow_clone)),
        );
        Ok(gradients)
    }
}
