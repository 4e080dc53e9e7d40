//! How different two images look to a network: squared differences of its maps, each pixel of which is brought to unit length first.
//!
//! Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924), section 3, without the
//! learned weight of each channel (their "baseline"): sums over channels, means over pixels, sums over the maps of five resolutions.

use tch::{Kind, Tensor};

use crate::{EvalError, features::EfficientNetLite};

/// Added under the root of a squared length: a pixel whose map is zero has a gradient, too.
const EPS: f64 = 1e-8;

/// The distance that an EfficientNet-Lite sees.
pub struct Perceptual {
    network: EfficientNetLite,
}

impl Perceptual {
    /// By the maps of `network`.
    #[must_use]
    pub fn new(network: EfficientNetLite) -> Self {
        Self { network }
    }

    /// The distance of each image of `one` from that of `other`, both `[image, 3, row, column]` RGB in [-1, 1]: `[image]`, from 0 (alike)
    /// to 20 (opposite everywhere). Differentiable in `one`; `other` is taken as given.
    ///
    /// # Errors
    /// Images of different shapes; no memory.
    pub fn distance(&self, one: &Tensor, other: &Tensor) -> Result<Tensor, EvalError> {
        if one.size() != other.size() {
            let (expected, got) = (format!("of shape {:?}", other.size()), format!("{:?}", one.size()));
            return Err(EvalError::Argument { argument: "images", expected, got });
        }
        let targets = tch::no_grad(|| self.network.stages(other))?;
        let stages = self.network.stages(one)?;
        let mut total = Tensor::f_zeros([one.size()[0]], (Kind::Float, one.device()))?;
        for (stage, target) in stages.iter().zip(&targets) {
            let apart = unit_length(stage)?.f_sub(&unit_length(target)?)?.f_square()?;
            let apart = apart.f_sum_dim_intlist(&[1_i64][..], false, Kind::Float)?;
            total = total.f_add(&apart.f_mean_dim(&[1_i64, 2][..], false, Kind::Float)?)?;
        }
        Ok(total)
    }
}

/// `[image, channel, row, column]` with the channels of every pixel as a vector of length 1.
fn unit_length(map: &Tensor) -> Result<Tensor, EvalError> {
    let squares = map.f_square()?.f_sum_dim_intlist(&[1_i64][..], true, Kind::Float)?;
    Ok(map.f_div(&squares.f_add_scalar(EPS)?.f_sqrt()?)?)
}
