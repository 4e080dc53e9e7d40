//! Comparison with the published implementation: files of tensors that it computed, checked key by key.
//!
//! `dim-trainer verify` prints what these functions return, and this crate's tests run them on the repository's files.

mod autoencoder;
pub mod compare;
mod full_size;
mod network;
mod published;
mod skip_weights;
mod transformer;
mod unet;

use std::collections::BTreeMap;

use dim_torch::{Parameters, TorchError};
use tch::{Device, Kind, Tensor};

use crate::procedural;
use crate::{DimConfig, Grid, ModelError, Padding, Precision, ScanDirection, directions};

pub use autoencoder::autoencoder;
pub use compare::{Computed, in_bf16, in_f32};
pub use full_size::full_size;
pub use network::network;
pub use skip_weights::skip_weights;
pub use transformer::transformer;
pub use unet::unet;

/// Gradients, relative to the largest of their tensor.
const GRADIENT_TOLERANCE: f64 = 1e-5;

/// Where and in what a network is evaluated for comparison.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where: the files lie on the CPU, and results are compared there, in f64.
    pub device: Device,
    /// In what. In bf16, errors are root mean squares, and tolerances twice the error of a plain evaluation on the CPU; on
    /// the CPU, whose kernels take f32 alone, [`Precision::Bf16Plain`] is compared with itself.
    pub precision: Precision,
}

impl Default for Setting {
    /// The CPU, in f32.
    fn default() -> Self {
        Self { device: Device::Cpu, precision: Precision::F32 }
    }
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Key of the tensor in the file.
    pub tensor: String,
    /// Largest error, absolute or relative as the tolerance is meant.
    pub error: f64,
    /// Largest error that a correct implementation makes.
    pub tolerance: f64,
}

/// A file's tensors and its metadata.
pub struct File {
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

impl File {
    /// The tensors and the metadata of one file.
    #[must_use]
    pub fn new(
        tensors: impl IntoIterator<Item = (String, Tensor)>,
        metadata: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self { tensors: tensors.into_iter().collect(), metadata: metadata.into_iter().collect() }
    }

    /// The tensor `key`.
    ///
    /// # Errors
    /// The file has none.
    pub fn tensor(&self, key: &str) -> Result<&Tensor, ModelError> {
        self.tensors.get(key).ok_or_else(|| absent(key))
    }

    /// The metadata's `key`.
    ///
    /// # Errors
    /// The file has none.
    pub fn metadata(&self, key: &str) -> Result<&str, ModelError> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| absent(key))
    }

    /// Every tensor whose key begins with `prefix`, by the rest of the key.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.tensors.iter().filter_map(move |(key, tensor)| Some((key.strip_prefix(prefix)?, tensor)))
    }
}

fn absent(key: &str) -> ModelError {
    ModelError::Input { argument: "file", expected: format!("a file with the key `{key}`"), got: "one without".into() }
}

/// The comparisons of one file.
#[derive(Default)]
pub struct Report {
    /// What was compared.
    pub checks: Vec<Check>,
    /// Keys that were read as inputs, and so have nothing to be compared with.
    pub inputs: Vec<String>,
}

impl Report {
    fn add(&mut self, tensor: impl Into<String>, error: f64, tolerance: f64) {
        // A NaN compares as no error at all; it is the worst there is.
        let error = if error.is_nan() { f64::INFINITY } else { error };
        self.checks.push(Check { tensor: tensor.into(), error, tolerance });
    }

    fn input(&mut self, keys: &[&str], file: &File) {
        self.inputs.extend(keys.iter().filter(|key| file.tensors.contains_key(**key)).map(|key| (*key).to_owned()));
    }
}

/// Fills parameters that have published names with values computed from those names: a network too large for a repository can still be
/// compared with another implementation, when both fill it by the same rule.
///
/// # Errors
/// An error of libtorch.
pub fn fill_from_names(parameters: &Parameters, seed: u64) -> Result<(), TorchError> {
    procedural::fill(parameters, seed)
}

/// Largest absolute difference; infinite where the sizes differ.
fn difference(ours: &Tensor, expected: &Tensor) -> f64 {
    if ours.numel() != expected.numel() {
        return f64::INFINITY;
    }
    let double = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1);
    (double(ours) - double(expected)).abs().max().double_value(&[])
}

/// Largest absolute value.
fn largest(tensor: &Tensor) -> f64 {
    tensor.detach().to_kind(Kind::Double).abs().max().double_value(&[])
}

/// A block's sequence in the order in which the authors' code holds it: that of the block's own scan.
fn in_scan_order(tensor: &Tensor, block: usize, depth: usize, grid: Grid) -> Result<Tensor, ModelError> {
    let map = directions(depth, ScanDirection::ALL.len())[block].token_map(grid, Padding::Lateral);
    let order: Vec<i64> = map.as_slice().iter().map(|&token| i64::from(token)).collect();
    Ok(tensor.f_index_select(1, &Tensor::from_slice(&order).to_device(tensor.device())).map_err(TorchError::from)?)
}

fn grid_of(x: &Tensor, config: &DimConfig) -> Grid {
    let side = |size: i64| usize::try_from(size).unwrap_or(0) / config.patch_size;
    Grid { rows: side(x.size()[2]), columns: side(x.size()[3]) }
}
