//! The scan on the host's cores.
//!
//! A task is a block of channels of one sequence. It walks the tokens in chunks, and within a chunk takes one tile of
//! channels after the other, a channel a lane: so the rows of B and C and the sums over the channels stay in the first
//! cache, and a row of tokens is read in long pieces. Within a tile, `recurrence` keeps the states in registers.
//!
//! Tasks and the order of every sum depend on the sizes alone, hence not on the number of threads.

mod backward;
mod block;
mod forward;
mod recurrence;
mod reduce;
#[cfg(test)]
mod tests;
mod walk;

use super::shape::Sizes;
use super::{SelectiveScan, SelectiveScanGradients};
use crate::lanes;
use crate::rows::{Order, Rows, RowsMut};
use crate::view::{TensorView, TensorViewMut};

/// Where the inputs lie.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    sizes: Sizes,
    order: Order<'a>,
    u: Rows<'a>,
    delta: Rows<'a>,
    a: Rows<'a>,
    b: Rows<'a>,
    c: Rows<'a>,
    d: Option<Rows<'a>>,
    z: Option<Rows<'a>>,
    delta_bias: Option<Rows<'a>>,
    delta_softplus: bool,
    initial_state: Option<Rows<'a>>,
}

impl<'a> Inputs<'a> {
    fn new(scan: &SelectiveScan<'a>, sizes: Sizes) -> Self {
        Self {
            sizes,
            order: Order::new(scan.token_map),
            u: Rows::new(&scan.u),
            delta: Rows::new(&scan.delta),
            a: Rows::new(&scan.a),
            b: Rows::new(&scan.b),
            c: Rows::new(&scan.c),
            d: scan.d.as_ref().map(Rows::new),
            z: scan.z.as_ref().map(Rows::new),
            delta_bias: scan.delta_bias.as_ref().map(Rows::new),
            delta_softplus: scan.delta_softplus,
            initial_state: scan.initial_state.as_ref().map(Rows::new),
        }
    }
}

/// [`super::forward`], checked.
pub(super) fn forward(
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    out: &mut TensorViewMut<'_>,
    last_state: Option<&mut TensorViewMut<'_>>,
) {
    lanes::run(forward::Forward {
        inputs: Inputs::new(scan, sizes),
        out: RowsMut::new(out),
        last_state: last_state.map(RowsMut::new),
    });
}

/// [`super::walk`], checked.
pub(super) fn walk(
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    states: &mut TensorViewMut<'_>,
    deltas: &mut TensorViewMut<'_>,
) {
    lanes::run(walk::Walk {
        inputs: Inputs::new(scan, sizes),
        grad_out: None,
        states: RowsMut::new(states),
        deltas: RowsMut::new(deltas),
    });
}

/// [`super::walk_back`], checked.
pub(super) fn walk_back(
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    grad_out: &TensorView<'_>,
    grad_states: &mut TensorViewMut<'_>,
    deltas: &mut TensorViewMut<'_>,
) {
    lanes::run(walk::Walk {
        inputs: Inputs::new(scan, sizes),
        grad_out: Some(Rows::new(grad_out)),
        states: RowsMut::new(grad_states),
        deltas: RowsMut::new(deltas),
    });
}

/// [`super::backward`], checked.
pub(super) fn backward(
    scan: &SelectiveScan<'_>,
    sizes: Sizes,
    grad_out: &TensorView<'_>,
    grad_last_state: Option<&TensorView<'_>>,
    gradients: &mut SelectiveScanGradients<'_>,
) {
    lanes::run(backward::Backward {
        inputs: Inputs::new(scan, sizes),
        grad_out: Rows::new(grad_out),
        grad_last_state: grad_last_state.map(Rows::new),
        gradients: backward::Gradients {
            u: RowsMut::new(&mut gradients.u),
            delta: RowsMut::new(&mut gradients.delta),
            a: RowsMut::new(&mut gradients.a),
            b: RowsMut::new(&mut gradients.b),
            c: RowsMut::new(&mut gradients.c),
            d: gradients.d.as_mut().map(RowsMut::new),
            z: gradients.z.as_mut().map(RowsMut::new),
            delta_bias: gradients.delta_bias.as_mut().map(RowsMut::new),
            initial_state: gradients.initial_state.as_mut().map(RowsMut::new),
        },
    });
}
