//! Names and shapes of a network's parameters, one after the other.

use dim_torch::ParameterSpec;

use crate::grid::size;

/// A list in the making.
#[derive(Default)]
pub(crate) struct Specs(pub(crate) Vec<ParameterSpec>);

impl Specs {
    pub(crate) fn push(&mut self, name: &str, shape: &[usize]) {
        self.0.push(spec(name, shape));
    }

    /// A table, learnt tokens, or anything else of several dimensions that multiplies nothing as a whole: weight decay for matrices does not
    /// reach it.
    pub(crate) fn push_table(&mut self, name: &str, shape: &[usize]) {
        self.0.push(spec(name, shape).no_matrix());
    }

    /// A table whose gradient comes late.
    pub(crate) fn push_late_table(&mut self, name: &str, shape: &[usize]) {
        self.0.push(spec(name, shape).no_matrix().with_late_gradient());
    }

    /// Weight `[outputs, inputs]` and bias `[outputs]`.
    pub(crate) fn push_linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.push(&format!("{name}.weight"), &[outputs, inputs]);
        self.push(&format!("{name}.bias"), &[outputs]);
    }

    /// Weight and bias of a norm.
    pub(crate) fn push_norm(&mut self, name: &str, width: usize) {
        self.push(&format!("{name}.weight"), &[width]);
        self.push(&format!("{name}.bias"), &[width]);
    }
}

fn spec(name: &str, shape: &[usize]) -> ParameterSpec {
    let shape: Vec<i64> = shape.iter().map(|&length| size(length)).collect();
    ParameterSpec::new(name, &shape)
}
