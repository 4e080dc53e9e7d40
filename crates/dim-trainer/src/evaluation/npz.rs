//! Statistics of other programs: pytorch-fid's (`mu`, `sigma`) and those of ADM's evaluation suite, which also have `mu_s` and `sigma_s`.
//!
//! They say neither which network they are of nor how its images were resized: both have 2,048 features of the Inception network.

use std::path::Path;

use dim_data::{Npz, NpzArray};
use dim_eval::Gaussian;
use tch::{Kind, Tensor};

use super::set::{Origin, Set};
use crate::error::TrainerError;

/// What of Inception's features can be told by their number.
const INCEPTION: i64 = 2048;

/// Reads moments. The returned [`Origin`] says TensorFlow's resizing of ADM's and pytorch-fid's of the others.
///
/// # Errors
/// [`TrainerError::Data`]; [`TrainerError::NotStatistics`] for archives without them, or of shapes that do not go together.
pub(crate) fn read_npz(path: &Path) -> Result<Set, TrainerError> {
    let wrong = |problem: String| TrainerError::NotStatistics { path: path.to_owned(), problem };
    let npz = Npz::open(path)?;
    let array = |name: &str| Ok::<_, TrainerError>(npz.array(name)?);
    let gaussian = |mean: &str, covariance: &str| match (array(mean)?, array(covariance)?) {
        (Some(mu), Some(sigma)) => {
            let d = mu.values.len() as u64;
            if mu.shape != [d] || sigma.shape != [d, d] || d == 0 {
                let problem = format!("`{mean}` and `{covariance}` are of shapes {:?} and {:?}", mu.shape, sigma.shape);
                return Err(wrong(problem));
            }
            if mu.values.iter().chain(&sigma.values).any(|value| !value.is_finite()) {
                return Err(wrong(format!("`{mean}` or `{covariance}` holds a number that is not finite")));
            }
            Ok(Some(Gaussian::new(tensor(&mu)?, tensor(&sigma)?)?))
        }
        (None, None) => Ok(None),
        _ => Err(wrong(format!("it has only one of `{mean}` and `{covariance}`"))),
    };
    let features = gaussian("mu", "sigma")?.ok_or_else(|| {
        wrong(format!("expected `mu` and `sigma`, as pytorch-fid and ADM publish them, got {}", npz.names().join(", ")))
    })?;
    if features.mean().size() != [INCEPTION] {
        let problem = format!("its `mu` has {} numbers, expected {INCEPTION} of Inception", features.mean().numel());
        return Err(wrong(problem));
    }
    let spatial = gaussian("mu_s", "sigma_s")?;
    let preprocessing = match spatial {
        Some(_) => dim_eval::features::Preprocessing::Tensorflow,
        None => dim_eval::features::Preprocessing::PytorchFid,
    };
    let origin =
        Origin { extractor: "inception".to_owned(), preprocessing: preprocessing.name().to_owned(), weights: None };
    Ok(Set::of_gaussians(origin, serde_json::json!({ "file": path }), features, spatial))
}

fn tensor(array: &NpzArray) -> Result<Tensor, TrainerError> {
    let shape: Vec<i64> = array.shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_slice(&array.values)?.f_to_kind(Kind::Double)?.f_view(shape.as_slice())?)
}
