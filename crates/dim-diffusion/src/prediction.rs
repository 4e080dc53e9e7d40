//! What a network's output stands for, and the one place that turns each kind into any other.
//!
//! A noisy image is `x_t = alpha x_0 + sigma noise`. Given `x_t`, every kind of output is an affine function of every other, so
//! whatever a network was trained to tell, image and noise follow from it:
//!
//! | kind | output | `x_0` | `noise` |
//! | --- | --- | --- | --- |
//! | epsilon | `noise` | `(x_t − sigma output) / alpha` | `output` |
//! | x0 | `x_0` | `output` | `(x_t − alpha output) / sigma` |
//! | v | `alpha noise − sigma x_0` | `(alpha x_t − sigma output) / s` | `(sigma x_t + alpha output) / s`, `s = alpha² + sigma²` |
//! | flow | `noise − x_0` | `(x_t − sigma output) / s` | `(x_t + alpha output) / s`, `s = alpha + sigma` |

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a network's output stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prediction {
    /// The noise (Ho et al., arXiv 2006.11239).
    #[default]
    #[serde(rename = "epsilon")]
    Epsilon,
    /// The clean image.
    #[serde(rename = "x0")]
    XStart,
    /// The velocity of the noisy image along the circle from image to noise (Salimans and Ho, arXiv 2202.00512, section 4).
    #[serde(rename = "v")]
    Velocity,
    /// The velocity along the straight line from image to noise, `noise − x_0`: rectified flow (Liu et al., arXiv 2209.03003).
    #[serde(rename = "flow")]
    Flow,
}

/// Shapes in all functions: `x_0`, `noise`, `x_t` and `output` are `[batch, …]`, of one shape, kind and device; `alpha` and `sigma`
/// broadcast against them, or are 0-dimensional on the CPU.
impl Prediction {
    /// What the network should have told of `alpha x_0 + sigma noise`.
    pub fn target(self, x_0: &Tensor, noise: &Tensor, alpha: &Tensor, sigma: &Tensor) -> Tensor {
        match self {
            Self::Epsilon => noise.shallow_clone(),
            Self::XStart => x_0.shallow_clone(),
            Self::Velocity => noise * alpha - x_0 * sigma,
            Self::Flow => noise - x_0,
        }
    }

    /// The clean image in `x_t`, given the network's output for it. Infinite for [`Epsilon`](Self::Epsilon) where `alpha` is 0.
    pub fn x_0(self, output: &Tensor, x_t: &Tensor, alpha: &Tensor, sigma: &Tensor) -> Tensor {
        match self {
            Self::Epsilon => (x_t - output * sigma) / alpha,
            Self::XStart => output.shallow_clone(),
            Self::Velocity => (x_t * alpha - output * sigma) / (alpha.square() + sigma.square()),
            Self::Flow => (x_t - output * sigma) / (alpha + sigma),
        }
    }

    /// The noise in `x_t`, given the network's output for it. Infinite for [`XStart`](Self::XStart) where `sigma` is 0.
    pub fn noise(self, output: &Tensor, x_t: &Tensor, alpha: &Tensor, sigma: &Tensor) -> Tensor {
        match self {
            Self::Epsilon => output.shallow_clone(),
            Self::XStart => (x_t - output * alpha) / sigma,
            Self::Velocity => (x_t * sigma + output * alpha) / (alpha.square() + sigma.square()),
            Self::Flow => (x_t + output * alpha) / (alpha + sigma),
        }
    }

    /// By how much `x_0` moves when the network's output moves by 1, without its sign.
    pub fn x_0_per_output(self, alpha: f64, sigma: f64) -> f64 {
        match self {
            Self::Epsilon => sigma / alpha,
            Self::XStart => 1.0,
            Self::Velocity => sigma / (alpha * alpha + sigma * sigma),
            Self::Flow => sigma / (alpha + sigma),
        }
    }
}

impl std::fmt::Display for Prediction {
    /// As in a configuration.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Epsilon => "epsilon",
            Self::XStart => "x0",
            Self::Velocity => "v",
            Self::Flow => "flow",
        })
    }
}
