//! The Fréchet distance of two normal distributions, by which FID compares two sets of images.
//!
//! `|m₁ − m₂|² + tr S₁ + tr S₂ − 2 tr (S₁ S₂)^½` (Dowson & Landau 1982; Heusel et al., arXiv 1706.08500, section 3). The last trace is
//! computed as the sum of the singular values of `B₁ᵀ B₂`, where `Sᵢ = Bᵢ Bᵢᵀ`, which are the roots of the eigenvalues of `S₁ S₂`: no complex root of a
//! matrix, no imaginary part to drop, no number to add to a singular covariance. Of a covariance of too few images, eigenvalues that are
//! zero but for rounding are taken for zero: the root would make 1e-8 of 1e-16, and a sum of a thousand of those is no small error.

use tch::{Device, Kind, Tensor};

use crate::EvalError;

/// Mean and covariance, f64 on the CPU.
#[derive(Debug)]
pub struct Gaussian {
    mean: Tensor,
    covariance: Tensor,
}

impl Gaussian {
    /// A distribution of mean `[feature]` and covariance `[feature, feature]`.
    ///
    /// # Errors
    /// [`EvalError::Dimension`].
    pub fn new(mean: Tensor, covariance: Tensor) -> Result<Self, EvalError> {
        let d = mean.numel();
        if mean.dim() != 1 || covariance.size() != [d as i64, d as i64] {
            let got = format!("shape {:?} for a mean of shape {:?}", covariance.size(), mean.size());
            return Err(EvalError::Dimension { what: "the covariance", expected: d, got });
        }
        let place = |tensor: Tensor| tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double);
        Ok(Self { mean: place(mean)?, covariance: place(covariance)? })
    }

    /// `[feature]`, f64.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// `[feature, feature]`, f64.
    pub fn covariance(&self) -> &Tensor {
        &self.covariance
    }
}

/// The Fréchet distance (the square, as FID reports it) of two distributions; 0 if they are one.
///
/// # Errors
/// [`EvalError::Dimension`] for different numbers of features, [`EvalError::Distance`] for covariances that are not finite.
pub fn frechet_distance(one: &Gaussian, other: &Gaussian) -> Result<f64, EvalError> {
    let (d, got) = (one.mean.numel(), other.mean.numel());
    if d != got {
        return Err(EvalError::Dimension { what: "the second distribution", expected: d, got: got.to_string() });
    }
    let finite = [&one.mean, &one.covariance, &other.mean, &other.covariance]
        .map(|tensor| tensor.f_isfinite()?.f_all().map(|all| all.int64_value(&[]) != 0));
    for finite in finite {
        if !finite? {
            return Err(EvalError::Distance { value: f64::NAN });
        }
    }
    let product = factor(&one.covariance)?.f_transpose(0, 1)?.f_matmul(&factor(&other.covariance)?)?;
    let overlap = match product.numel() {
        0 => 0.0,
        _ => product.f_svd(true, false)?.1.f_sum(Kind::Double)?.double_value(&[]),
    };
    let apart = one.mean.f_sub(&other.mean)?.f_square()?.f_sum(Kind::Double)?.double_value(&[]);
    let trace = |gaussian: &Gaussian| Ok::<_, EvalError>(gaussian.covariance.f_trace()?.double_value(&[]));
    let distance = apart + trace(one)? + trace(other)? - 2.0 * overlap;
    if distance.is_finite() { Ok(distance) } else { Err(EvalError::Distance { value: distance }) }
}

/// A factor `B` of a covariance `B Bᵀ`, `[feature, rank]`, with orthogonal columns: its root but for a rotation, which changes no singular
/// value of a product.
fn factor(covariance: &Tensor) -> Result<Tensor, EvalError> {
    let symmetric = covariance.f_add(&covariance.f_transpose(0, 1)?)?.f_mul_scalar(0.5)?;
    let (values, vectors) = symmetric.f_linalg_eigh("L")?;
    // What rounding leaves of a zero; as `numpy.linalg.matrix_rank` has it.
    let noise = values.f_abs()?.f_max()?.double_value(&[]) * values.numel() as f64 * f64::EPSILON;
    let kept = values.f_gt(noise)?.f_nonzero()?.f_flatten(0, 1)?;
    Ok(vectors.f_index_select(1, &kept)?.f_mul(&values.f_index_select(0, &kept)?.f_sqrt()?)?)
}
