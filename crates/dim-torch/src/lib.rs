//! What tch lacks: differentiable operations over `dim-kernels`, flat parameter buffers with their optimiser, and
//! the start-up of CUDA. The only crate that sees both tensors and kernels.
//!
//! Data goes one way: a tensor is viewed (`bridge`), a kernel runs on the view (`dim-kernels`), and
//! [`custom_function`] records the operation in libtorch's autograd graph.

// The bridge hands tensors to C++ and to kernels as raw pointers; every block says why that is sound.
#![allow(unsafe_code)]

mod bridge;
mod checkpoint;
pub mod cuda;
mod cuda_graph;
pub mod custom_function;
pub mod distributed;
mod error;
mod ffi;
pub mod host_memory;
mod leaf_gradient;
pub mod ops;
mod optimizer;
mod parameters;
mod profile;
mod recorded_calls;

pub use checkpoint::{checkpoint, checkpoint_holding};
pub use cuda_graph::CudaGraph;
pub use dim_kernels::TokenMap;
pub use error::TorchError;
pub use optimizer::{AdamW, AdamWConfig};
pub use parameters::{Derived, HeldUnit, ParameterSpec, ParameterUnit, Parameters, Weight};
pub use profile::{Event, Profiler, profile};
pub use recorded_calls::RecordedCalls;
