//! Differentiable operations, one a file or folder.

mod causal_conv1d;
mod conv2d;
mod joined_linear;
mod linear;
mod mamba;
mod norm_modulate;
mod selective_scan;
mod weight_gradient;

pub use causal_conv1d::{CausalConv1dInputs, causal_conv1d};
pub use conv2d::conv2d;
pub use joined_linear::{JoinWeights, joined_linear};
pub use linear::linear;
pub use mamba::{MambaInputs, MambaKeeps, Projection, Strip, mamba, mamba_of_strip};
pub use norm_modulate::{GatedBranch, Norm, NormModulateInputs, gated_residual, norm_modulate};
pub use selective_scan::{SelectiveScanInputs, selective_scan, selective_scan_with_last_state};

use tch::Tensor;

/// The tensor itself if its last dimension is contiguous, as kernels need it; otherwise a contiguous copy.
fn with_contiguous_channels(tensor: &Tensor) -> Tensor {
    match tensor.stride().last() {
        Some(&stride) if stride != 1 => tensor.contiguous(),
        _ => tensor.shallow_clone(),
    }
}
