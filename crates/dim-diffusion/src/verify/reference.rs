//! Finding tensors in a reference file by name, and comparing with them.

use std::{collections::BTreeMap, str::FromStr};

use tch::{Kind, Tensor};

use super::Check;
use crate::DiffusionError;

/// What a correct f32 implementation meets, unless said otherwise.
pub(super) const TOLERANCE: f64 = 1e-5;

/// The tensors of a reference file.
pub(super) struct Reference<'a> {
    tensors: BTreeMap<&'a str, &'a Tensor>,
}

impl<'a> Reference<'a> {
    pub(super) fn new(tensors: &'a [(String, Tensor)]) -> Self {
        Self { tensors: tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Result<&'a Tensor, DiffusionError> {
        self.tensors.get(name).copied().ok_or_else(|| DiffusionError::Reference {
            name: name.to_owned(),
            problem: "missing, though others of its group are in the file".to_owned(),
        })
    }

    /// One number.
    pub(super) fn number(&self, name: &str) -> Result<f64, DiffusionError> {
        let tensor = self.get(name)?;
        if tensor.numel() == 1 {
            return Ok(tensor.view([1]).double_value(&[0]));
        }
        Err(unusable(name, format!("has the shape {:?} but must be one number", tensor.size())))
    }

    /// A list of indices.
    pub(super) fn indices(&self, name: &str) -> Result<Vec<usize>, DiffusionError> {
        let values = Vec::<i64>::try_from(self.get(name)?.flatten(0, -1).to_kind(Kind::Int64))?;
        values
            .into_iter()
            .map(|value| usize::try_from(value).map_err(|_| unusable(name, format!("{value} is negative"))))
            .collect()
    }

    /// The values `V` for which `prefix V suffix` is a tensor's name, sorted by name.
    pub(super) fn variants<V: FromStr>(&self, prefix: &str, suffix: &str) -> Vec<(&'a str, V)> {
        self.tensors
            .keys()
            .filter_map(|name| {
                let variant = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
                Some((*name, variant.parse().ok()?))
            })
            .collect()
    }

    /// Compares absolutely, within [`TOLERANCE`].
    pub(super) fn compare(&self, name: &str, actual: &Tensor) -> Result<Check, DiffusionError> {
        self.compare_within(name, actual, TOLERANCE)
    }

    /// Compares absolutely.
    pub(super) fn compare_within(&self, name: &str, actual: &Tensor, tolerance: f64) -> Result<Check, DiffusionError> {
        let expected = self.get(name)?;
        let error = largest(actual, expected, |difference, _| difference.shallow_clone());
        Ok(Check { tensor: name.to_owned(), error, tolerance })
    }

    /// Compares relatively to each expected value.
    pub(super) fn compare_relatively(&self, name: &str, actual: &Tensor) -> Result<Check, DiffusionError> {
        let expected = self.get(name)?;
        let error = largest(actual, expected, |difference, size| difference / size);
        Ok(Check { tensor: name.to_owned(), error, tolerance: TOLERANCE })
    }

    /// Compares indices, which must agree.
    pub(super) fn compare_indices(&self, name: &str, actual: &[usize]) -> Result<Check, DiffusionError> {
        let actual: Vec<i64> = actual.iter().map(|&index| index as i64).collect();
        let check = self.compare_within(name, &Tensor::from_slice(&actual), 0.0)?;
        Ok(check)
    }
}

pub(super) fn unusable(name: &str, problem: impl Into<String>) -> DiffusionError {
    DiffusionError::Reference { name: name.to_owned(), problem: problem.into() }
}

fn largest(actual: &Tensor, expected: &Tensor, measure: impl Fn(&Tensor, &Tensor) -> Tensor) -> f64 {
    if actual.size() != expected.size() {
        return f64::INFINITY;
    }
    if actual.numel() == 0 {
        return 0.0;
    }
    let (actual, expected) = (actual.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let largest = measure(&(actual - &expected).abs(), &expected.abs()).max().double_value(&[]);
    if largest.is_nan() { f64::INFINITY } else { largest }
}
