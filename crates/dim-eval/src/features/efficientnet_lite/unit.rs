//! A convolution and the batch norm behind it, folded into one convolution.

use dim_torch::{Parameters, TorchError};
use tch::{Device, Tensor};

use super::{super::folded::folded, layout};

/// The bound of ReLU6.
const SIX: f64 = 6.0;

/// A convolution with a bias, padded as TensorFlow pads.
pub(super) struct Unit {
    weight: Tensor,
    bias: Tensor,
    side: i64,
    stride: i64,
    groups: i64,
    activated: bool,
}

impl Unit {
    pub(super) fn new(parameters: &Parameters, unit: &layout::Unit, device: Device) -> Result<Self, TorchError> {
        let (weight, bias) = folded(parameters, &unit.convolution, &unit.norm, device)?;
        Ok(Self {
            weight,
            bias,
            side: unit.side,
            stride: unit.stride,
            groups: if unit.depthwise { unit.outputs } else { 1 },
            activated: unit.activated,
        })
    }

    /// `[image, channel, row, column]`; rows and columns are divided by the stride and rounded up.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let size = x.size();
        let [top, bottom] = same_padding(size[2], self.side, self.stride);
        let [left, right] = same_padding(size[3], self.side, self.stride);
        let stride = [self.stride, self.stride];
        let convolve = |x: &Tensor, padding: [i64; 2]| {
            x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], self.groups)
        };
        let out = if top == bottom && left == right {
            convolve(x, [top, left])?
        } else {
            convolve(&x.f_constant_pad_nd([left, right, top, bottom])?, [0, 0])?
        };
        Ok(if self.activated { out.f_clamp(0.0, SIX)? } else { out })
    }
}

/// Zeros before and behind `length` pixels: TensorFlow's "SAME", whose smaller half comes first.
fn same_padding(length: i64, side: i64, stride: i64) -> [i64; 2] {
    let outputs = (length + stride - 1) / stride;
    let total = ((outputs - 1) * stride + side - length).max(0);
    [total / 2, total - total / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_that_of_tensorflow() {
        assert_eq!(same_padding(224, 3, 1), [1, 1]);
        assert_eq!(same_padding(224, 3, 2), [0, 1]);
        assert_eq!(same_padding(56, 5, 2), [1, 2]);
        assert_eq!(same_padding(7, 3, 2), [1, 1]);
        assert_eq!(same_padding(7, 1, 1), [0, 0]);
        assert_eq!(same_padding(6, 1, 2), [0, 0]);
    }
}
