//! A convolution of images, as exact in f32 on a GPU as on a CPU.

use tch::{Kind, Tensor};

use crate::{TorchError, ffi};

/// Bytes that the patches of an image may take as the rows of a matrix.
const MOST_PATCH_BYTES: i64 = 64 << 20;

/// `[batch, channel, row, column]` → `[batch, output, row, column]`, by `weight`, `[output, channel, row, column]`, with square filters, and
/// `bias`, `[output]`, all of one kind.
///
/// In f32 cuDNN's convolutions lose two to four times as much as cuBLAS's products of the patches do (on an H200, root mean square, results being of
/// size 1: 4.0e-7 against 1.5e-7 for 64 channels and 3 × 3 filters, 1.2e-6 against 4.2e-7 for 512). So f32 goes through products there, at about the
/// same speed, while the patches are small enough to be laid out as a matrix.
///
/// # Errors
/// Shapes or kinds that do not fit; no memory.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: i64) -> Result<Tensor, TorchError> {
    if x.kind() == Kind::Float && x.device().is_cuda() && patch_bytes(x, weight, stride, padding) <= MOST_PATCH_BYTES {
        let mut out = std::ptr::null_mut();
        // SAFETY: the tensors are alive; the callee writes a handle that the caller owns, or returns a message.
        ffi::check(unsafe {
            ffi::dim_conv2d_by_products(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), stride, padding, &raw mut out)
        })?;
        // SAFETY: a handle of its own, owned here alone.
        return Ok(unsafe { Tensor::from_ptr(out) });
    }
    Ok(x.f_conv2d(weight, Some(bias), [stride; 2], [padding; 2], [1, 1], 1)?)
}

/// What the patches of one image take, each of them a row.
fn patch_bytes(x: &Tensor, weight: &Tensor, stride: i64, padding: i64) -> i64 {
    let (x, weight) = (x.size(), weight.size());
    let (&[_, _, rows, columns], &[_, channels, side, _]) = (&x[..], &weight[..]) else { return i64::MAX };
    let places = |length: i64| (length + 2 * padding - side).max(0) / stride.max(1) + 1;
    channels * side * side * places(rows) * places(columns) * size_of::<f32>() as i64
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn patches_are_counted_as_they_are_laid_out() {
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
        for (x, weight, stride, padding, rows) in [
            ([2, 3, 8, 6], [5, 3, 3, 3], 1, 1, 48),
            ([1, 3, 9, 7], [5, 3, 3, 3], 2, 0, 12),
            ([1, 3, 4, 4], [2, 3, 1, 1], 1, 0, 16),
        ] {
            let (x, weight) = (zeros(&x), zeros(&weight));
            let out = conv2d(&x, &weight, &zeros(&[weight.size()[0]]), stride, padding).unwrap_or_default();
            assert_eq!(out.size()[2..].iter().product::<i64>(), rows);
            let row = weight.size()[1..].iter().product::<i64>();
            assert_eq!(patch_bytes(&x, &weight, stride, padding), 4 * rows * row);
        }
        assert_eq!(patch_bytes(&zeros(&[3]), &zeros(&[5, 3, 3, 3]), 1, 1), i64::MAX);
    }
}
