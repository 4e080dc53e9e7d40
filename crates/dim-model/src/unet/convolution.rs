//! Convolutions in the network's compute precision.

use dim_torch::{Parameters, TorchError, Weight};
use tch::{Device, Kind, Tensor};

use crate::Precision;

/// A convolution that keeps the image's size, weight `[outputs, inputs, side, side]` or `[outputs, inputs, 1]`.
pub(super) struct Convolution {
    weight: Weight,
    bias: Weight,
}

impl Convolution {
    /// The convolution whose parameters are `name.weight` and `name.bias`.
    pub(super) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        let weight = |part: &str| parameters.weight(&format!("{name}.{part}"));
        Ok(Self { weight: weight("weight")?, bias: weight("bias")? })
    }

    /// `[batch, input, row, column]` → `[batch, output, row, column]`, rounded to the precision's type.
    pub(super) fn forward(&self, x: &Tensor, precision: Precision) -> Result<Tensor, TorchError> {
        let rounded = |tensor: &Tensor| tensor.to_kind(precision.kind()).to_kind(precision.kernel_kind());
        // Without gradients, a copy that is made once serves; with them, autograd must see the conversion.
        let parameter = |weight: &Weight| {
            let converts = weight.leaf().requires_grad() || precision != Precision::Bf16;
            if converts { Ok(rounded(weight.leaf())) } else { weight.computed(precision.kind()) }
        };
        let (weight, bias) = (parameter(&self.weight)?, parameter(&self.bias)?);
        // The published attention convolves along a row of pixels, [outputs, inputs, 1].
        let weight = if weight.dim() == 3 { weight.f_unsqueeze(-1)? } else { weight };
        let padding = weight.size()[3] / 2;
        let x = layout_of_convolutions(rounded(x))?;
        let out = x.f_conv2d(&weight, Some(&bias), [1, 1], [padding, padding], [1, 1], 1)?;
        Ok(out.to_kind(precision.kind()))
    }
}

/// Channels last in memory on GPUs in bf16: there cuDNN's tensor-core kernels read this layout, and turn any other into it. A
/// tensor that has it already is not copied.
fn layout_of_convolutions(x: Tensor) -> Result<Tensor, TorchError> {
    if x.kind() == Kind::BFloat16 && matches!(x.device(), Device::Cuda(_)) {
        Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
    } else {
        Ok(x)
    }
}
