//! The scan on the host's cores.

use super::shape::Sizes;
use super::{SelectiveScan, SelectiveScanGradients};
use crate::view::{TensorView, TensorViewMut};

pub(super) fn forward(
    _scan: &SelectiveScan<'_>,
    _sizes: Sizes,
    _out: &mut TensorViewMut<'_>,
    _last_state: Option<&mut TensorViewMut<'_>>,
) {
    todo!("the next commit")
}

pub(super) fn backward(
    _scan: &SelectiveScan<'_>,
    _sizes: Sizes,
    _grad_out: &TensorView<'_>,
    _grad_last_state: Option<&TensorView<'_>>,
    _gradients: &mut SelectiveScanGradients<'_>,
) {
    todo!("the next commit")
}
