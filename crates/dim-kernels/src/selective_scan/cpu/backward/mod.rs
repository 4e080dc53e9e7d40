//! The backward pass: a walk over the tokens that keeps the states before every chunk, and one back.

mod scratch;
mod steps;
mod task;

use rayon::prelude::*;

use super::Inputs;
use super::block::Block;
use super::reduce::Partial;
use crate::lanes::{Kernel, Lanes};
use crate::pool::Pool;
use crate::rows::{Rows, RowsMut};
use scratch::Scratch;
use task::Task;

/// Where the gradients go.
pub(super) struct Gradients<'a> {
    pub(super) u: RowsMut<'a>,
    pub(super) delta: RowsMut<'a>,
    pub(super) a: RowsMut<'a>,
    pub(super) b: RowsMut<'a>,
    pub(super) c: RowsMut<'a>,
    pub(super) d: Option<RowsMut<'a>>,
    pub(super) z: Option<RowsMut<'a>>,
    pub(super) delta_bias: Option<RowsMut<'a>>,
    pub(super) initial_state: Option<RowsMut<'a>>,
}

/// The whole backward pass.
pub(super) struct Backward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) grad_out: Rows<'a>,
    pub(super) grad_last_state: Option<Rows<'a>>,
    pub(super) gradients: Gradients<'a>,
}

impl Kernel for Backward<'_> {
    fn run<S: Lanes>(self, s: S) {
        let sizes = self.inputs.sizes;
        let pool = Pool::new(|| Scratch::new(s, sizes));
        let mut partial = Partial::new(sizes);
        partial.tasks().enumerate().for_each(|(task, partial)| {
            let block = Block::of_task(task, sizes);
            pool.with(|scratch| s.enter(Task { pass: &self, block, scratch, partial }));
        });
        partial.reduce(&self.gradients);
    }
}
