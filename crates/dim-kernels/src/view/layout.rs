//! Shape and strides.

use super::{DType, Device};
use crate::error::KernelError;

/// The most dimensions that a view can have.
const MAX_RANK: usize = 4;

/// Everything about a view but its pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: DType,
    pub(crate) device: Device,
    rank: usize,
    shape: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
}

impl Layout {
    pub(super) fn new(dtype: DType, device: Device, shape: &[usize], strides: &[usize]) -> Result<Self, KernelError> {
        let error = |expected: String, got: String| KernelError::View { shape: shape.to_vec(), expected, got };
        if shape.len() > MAX_RANK {
            return Err(error(format!("at most {MAX_RANK} dimensions"), format!("{} dimensions", shape.len())));
        }
        if strides.len() != shape.len() {
            return Err(error(format!("{} strides", shape.len()), format!("the strides {strides:?}")));
        }
        let mut layout = Self { dtype, device, rank: shape.len(), shape: [1; MAX_RANK], strides: [0; MAX_RANK] };
        layout.shape[..shape.len()].copy_from_slice(shape);
        layout.strides[..shape.len()].copy_from_slice(strides);
        // So that no later offset in elements or bytes can overflow.
        let bytes = layout.extent().and_then(|elements| elements.checked_mul(dtype.size_bytes()));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(error("an extent of at most isize::MAX bytes".into(), format!("the strides {strides:?}")));
        }
        Ok(layout)
    }

    pub(super) fn contiguous(dtype: DType, device: Device, shape: &[usize]) -> Result<Self, KernelError> {
        let mut strides = [1_usize; MAX_RANK];
        let rank = shape.len().min(MAX_RANK);
        for dimension in (1..rank).rev() {
            strides[dimension - 1] = strides[dimension].saturating_mul(shape[dimension].max(1));
        }
        Self::new(dtype, device, shape, &strides[..rank])
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }

    pub(crate) fn strides(&self) -> &[usize] {
        &self.strides[..self.rank]
    }

    /// Number of elements from the first one to behind the last one, gaps included; None if it overflows.
    fn extent(&self) -> Option<usize> {
        if self.shape().contains(&0) {
            return Some(0);
        }
        let mut last = 0_usize;
        for (&len, &stride) in self.shape().iter().zip(self.strides()) {
            last = last.checked_add((len - 1).checked_mul(stride)?)?;
        }
        last.checked_add(1)
    }

    /// Whether an element's neighbour in the last dimension is its neighbour in memory.
    pub(crate) fn rows_are_contiguous(&self) -> bool {
        match (self.shape().last(), self.strides().last()) {
            (Some(&len), Some(&stride)) => len <= 1 || stride == 1,
            _ => true,
        }
    }

    /// Whether the elements lie one behind the other, in order.
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut next = 1;
        self.shape().iter().zip(self.strides()).rev().all(|(&len, &stride)| {
            let follows = len <= 1 || stride == next;
            next *= len;
            follows
        }) || self.shape().contains(&0)
    }

    /// Whether no two indices name the same element, judged by nesting: each dimension steps over the whole of the
    /// dimensions with smaller strides. (Stranger layouts without overlap exist; nobody has them.)
    pub(crate) fn elements_are_distinct(&self) -> bool {
        if self.shape().contains(&0) {
            return true;
        }
        let mut dimensions: Vec<(usize, usize)> =
            self.strides().iter().copied().zip(self.shape().iter().copied()).filter(|&(_, len)| len > 1).collect();
        dimensions.sort_unstable();
        let mut extent = 1;
        dimensions.into_iter().all(|(stride, len)| {
            let distinct = stride >= extent;
            extent += (len - 1) * stride;
            distinct
        })
    }
}
