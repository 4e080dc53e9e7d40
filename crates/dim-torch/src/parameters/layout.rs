//! What parameters there are, and where each lies in the flat buffer.

use tch::Tensor;

use crate::TorchError;

/// Each parameter starts on a multiple of this many elements, so that its rows can be loaded as whole vectors.
pub(super) const ALIGNMENT: i64 = 64;

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Unique name, such as `blocks.0.mamba.in_proj.weight`.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<i64>,
    /// Whether its gradient is among the last that a backward pass computes although it belongs to a layer that is not among the first.
    ///
    /// Such parameters stand together at the end of the flat buffer, so that neighbours' gradients, which travel with theirs, need not wait.
    pub late: bool,
    /// Whether it is a weight of a linear map or a convolution: what weight decay is meant for, if it is not for all.
    ///
    /// By default so if it has two dimensions or more; tables, learnt tokens and Mamba's `A`, which have them, too, are none.
    pub matrix: bool,
}

impl ParameterSpec {
    /// A parameter called `name` of this shape.
    pub fn new(name: impl Into<String>, shape: &[i64]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), late: false, matrix: shape.len() > 1 }
    }

    /// The same, of a parameter whose gradient comes late.
    #[must_use]
    pub fn with_late_gradient(mut self) -> Self {
        self.late = true;
        self
    }

    /// The same, of a parameter that is no weight of a linear map although it looks like one.
    #[must_use]
    pub fn no_matrix(mut self) -> Self {
        self.matrix = false;
        self
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// As many elements as these take up.
pub(super) fn aligned(elements: i64) -> i64 {
    (elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

/// Elements of the flat buffer.
pub(super) fn flat_length(specs: &[ParameterSpec]) -> i64 {
    specs.iter().map(|spec| aligned(spec.elements())).sum()
}

/// Elements of a flat buffer that as many parts can share evenly.
pub(super) fn padded_length(specs: &[ParameterSpec], parts: usize) -> i64 {
    let (length, unit) = (flat_length(specs), ALIGNMENT * parts as i64);
    (length + unit - 1) / unit * unit
}

/// A parameter's part of a flat buffer, where it begins at `offset`.
pub(super) fn slice(flat: &Tensor, offset: i64, spec: &ParameterSpec) -> Result<Tensor, TorchError> {
    Ok(flat.f_narrow(0, offset, spec.elements())?.f_view(spec.shape.as_slice())?)
}

/// Where each parameter begins: one behind the other, those whose gradients come late behind all others.
pub(super) fn offsets(specs: &[ParameterSpec]) -> Vec<i64> {
    let (mut offsets, mut next) = (vec![0; specs.len()], 0);
    for late in [false, true] {
        for (offset, spec) in offsets.iter_mut().zip(specs).filter(|(_, spec)| spec.late == late) {
            *offset = next;
            next += aligned(spec.elements());
        }
    }
    offsets
}

/// Every parameter's part of a flat buffer.
pub(super) fn views(flat: &Tensor, specs: &[ParameterSpec]) -> Result<Vec<Tensor>, TorchError> {
    specs.iter().zip(offsets(specs)).map(|(spec, offset)| slice(flat, offset, spec)).collect()
}
