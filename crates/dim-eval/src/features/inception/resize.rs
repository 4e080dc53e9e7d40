//! How images come to 299 × 299 pixels and to the values that the network was trained on.
//!
//! Both ways are bilinear without a filter against aliasing, and yet they differ by about half a pixel.

use tch::{Kind, Tensor};

use crate::EvalError;

/// Side in pixels of the images that the network was trained on.
pub(super) const SIDE: i64 = 299;

/// Whose resizing and scaling of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preprocessing {
    /// pytorch-fid's: pixels over 255, bilinear with the centres of pixels at halves, then `2x − 1`.
    PytorchFid,
    /// That of TensorFlow 1, in which the network was published; so in ADM's evaluation suite and torch-fidelity: bilinear with the corners
    /// of pixels at whole numbers, then `(x − 128) / 128`.
    Tensorflow,
}

impl Preprocessing {
    /// As statistics and reports write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PytorchFid => "bilinear, pytorch-fid",
            Self::Tensorflow => "bilinear, TensorFlow 1",
        }
    }

    /// What the network reads of `pixels`, `[image, 3, row, column]` f32 from 0 to 255.
    pub(super) fn apply(self, pixels: &Tensor) -> Result<Tensor, EvalError> {
        Ok(match self {
            Self::PytorchFid => Self::resized_to_unit(&pixels.f_div_scalar(255.0)?)?,
            Self::Tensorflow => {
                let rows = interpolated(pixels, 2)?;
                interpolated(&rows, 3)?.f_sub_scalar(128.0)?.f_div_scalar(128.0)?
            }
        })
    }

    /// pytorch-fid's, of images in [0, 1]. It interpolates also where the size is right, which changes nothing.
    pub(super) fn resized_to_unit(images: &Tensor) -> Result<Tensor, EvalError> {
        let resized = images.f_upsample_bilinear2d([SIDE, SIDE], false, None, None)?;
        Ok(resized.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)
    }
}

/// TensorFlow 1's linear interpolation along one dimension: place `i` is at `i · length / 299`, the last pixel goes on beyond the edge.
fn interpolated(x: &Tensor, dimension: i64) -> Result<Tensor, EvalError> {
    let length = x.size()[dimension as usize];
    if length == SIDE {
        return Ok(x.shallow_clone());
    }
    // In f32, as TensorFlow computes it.
    let step = length as f32 / SIDE as f32;
    let places: Vec<f32> = (0..SIDE).map(|place| place as f32 * step).collect();
    let lower: Vec<i64> = places.iter().map(|place| place.floor() as i64).collect();
    let upper: Vec<i64> = lower.iter().map(|place| (place + 1).min(length - 1)).collect();
    let share: Vec<f32> = places.iter().map(|place| place - place.floor()).collect();
    let pick = |places: &[i64]| x.f_index_select(dimension, &Tensor::f_from_slice(places)?.f_to_device(x.device())?);
    let shape = if dimension == 2 { [1, 1, SIDE, 1] } else { [1, 1, 1, SIDE] };
    let share = Tensor::f_from_slice(&share)?.f_to_device(x.device())?.f_to_kind(Kind::Float)?.f_view(shape)?;
    let (lower, upper) = (pick(&lower)?, pick(&upper)?);
    Ok(lower.f_add(&upper.f_sub(&lower)?.f_mul(&share)?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tch::Device;

    use super::*;

    /// Columns 0, 1, 2, …: a place's value is where it was taken from.
    fn ramp(length: i64) -> Tensor {
        Tensor::arange(length, (Kind::Float, Device::Cpu)).view([1, 1, 1, length]).expand([1, 3, length, length], false)
    }

    #[test]
    fn the_two_ways_lie_half_a_pixel_apart() {
        for length in [64_i64, 512] {
            let x = ramp(length);
            let scale = length as f64 / SIDE as f64;
            let pytorch = (Preprocessing::PytorchFid.apply(&x).unwrap() + 1.0) * 127.5;
            let tensorflow = Preprocessing::Tensorflow.apply(&x).unwrap() * 128.0 + 128.0;
            for place in [1, 100, 200, 290] {
                let at = |x: &Tensor| x.double_value(&[0, 1, 7, place]);
                assert!((at(&tensorflow) - place as f64 * scale).abs() < 1e-3);
                assert!((at(&pytorch) - ((place as f64 + 0.5) * scale - 0.5).max(0.0)).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn images_of_the_right_size_stay() {
        let x = ramp(SIDE).clamp_max(255.0);
        let pytorch = (Preprocessing::PytorchFid.apply(&x).unwrap() + 1.0) * 127.5;
        let tensorflow = Preprocessing::Tensorflow.apply(&x).unwrap() * 128.0 + 128.0;
        for same in [pytorch, tensorflow] {
            assert!((same - &x).abs().max().double_value(&[]) < 1e-4);
        }
    }
}
