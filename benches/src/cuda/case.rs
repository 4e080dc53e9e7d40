//! One thing to time.

use dim_kernels::gpu::Gpu;
use dim_kernels::{KernelError, Queue};

use super::Work;

/// Runs an op once on memory that it owns.
pub type Run = Box<dyn FnMut(&Queue) -> Result<(), KernelError>>;

/// Makes an op's memory and the call on it.
pub type Make = Box<dyn Fn(&Gpu) -> Result<Run, KernelError>>;

/// Compares an op with its f64 reference on a small odd case.
pub type Check = fn(&Gpu) -> Result<(), String>;

/// An op in one direction at one shape.
pub struct Case {
    /// Folder of the op.
    pub op: &'static str,
    /// `forward`, `backward` or `step`.
    pub direction: &'static str,
    /// Sizes, such as `16x4494x3072n16`: batch, tokens, channels, and states or the filter's width.
    pub shape: String,
    /// Of activations.
    pub dtype: &'static str,
    /// Whether the op follows a token map of the network; None for ops that take none.
    pub token_map: Option<bool>,
    /// What the op must do at least.
    pub work: Work,
    /// Makes inputs and outputs; called once for each set of buffers.
    pub make: Make,
}

impl Case {
    /// `selective_scan/forward/16x4494x3072n16/bf16/map`.
    #[must_use]
    pub fn name(&self) -> String {
        let map = match self.token_map {
            Some(true) => "/map",
            Some(false) => "/plain",
            None => "",
        };
        format!("{}/{}/{}/{}{map}", self.op, self.direction, self.shape, self.dtype)
    }
}
