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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use npyz::WriterBuilder;

    use super::*;

    /// Name and shape.
    type Array<'a> = (&'a str, &'a [u64]);

    /// An archive of arrays of ones in these shapes.
    fn write(path: &Path, arrays: &[Array]) {
        let mut bytes = Vec::new();
        let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
        for (name, shape) in arrays {
            let mut member = Vec::new();
            let mut writer =
                npyz::WriteOptions::<f64>::new().default_dtype().shape(shape).writer(&mut member).begin_nd().unwrap();
            writer.extend(std::iter::repeat_n(1.0, shape.iter().product::<u64>() as usize)).unwrap();
            writer.finish().unwrap();
            let (mut entry, config) = archive.new_file(format!("{name}.npy")).start().unwrap();
            let mut writer = config.wrap(&mut entry);
            writer.write_all(&member).unwrap();
            let (_, descriptor) = writer.finish().unwrap();
            entry.finish(descriptor).unwrap();
        }
        archive.finish().unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn statistics_of_both_programs_are_known_by_their_arrays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, &[("mu", &[2048]), ("sigma", &[2048, 2048])]);
        let set = read_npz(&path).unwrap();
        assert_eq!((set.dimension(), set.count(), set.origin.extractor.as_str()), (2048, 0, "inception"));
        assert!(set.origin.preprocessing.contains("pytorch-fid") && set.spatial().unwrap().is_none());
        assert!(set.save(&path).is_err(), "nobody knows of how many images they are");
        write(
            &path,
            &[("arr_0", &[3]), ("mu", &[2048]), ("sigma", &[2048, 2048]), ("mu_s", &[5]), ("sigma_s", &[5, 5])],
        );
        let set = read_npz(&path).unwrap();
        assert!(set.origin.preprocessing.contains("TensorFlow"));
        assert_eq!(set.spatial().unwrap().unwrap().mean().size(), [5]);
    }

    #[test]
    fn what_is_no_statistics_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let cases: [(&[Array], &str); 4] = [
            (&[("z", &[4])], "expected `mu` and `sigma`, as pytorch-fid and ADM publish them, got z"),
            (&[("mu", &[4])], "only one of `mu` and `sigma`"),
            (&[("mu", &[4]), ("sigma", &[4, 5])], "shapes [4] and [4, 5]"),
            (&[("mu", &[4]), ("sigma", &[4, 4])], "its `mu` has 4 numbers, expected 2048"),
        ];
        for (arrays, needle) in cases {
            write(&path, arrays);
            let error = read_npz(&path).err().unwrap().to_string();
            assert!(error.contains("a.npz") && error.contains(needle), "{error}");
        }
    }
}
