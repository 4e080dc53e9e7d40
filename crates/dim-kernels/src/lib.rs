//! Every kernel of DiM behind one safe API: CPU (rayon), CUDA, and the sequential f64 reference.
//!
//! A caller describes its memory with [`TensorView`] and [`TensorViewMut`], names the hardware queue with [`Queue`] and
//! calls an op: [`selective_scan::forward`], [`causal_conv1d::forward`], [`norm_modulate::forward`] and their `backward`.
//! An op checks every shape, stride, dtype and device before it takes a pointer, and answers a mismatch with a
//! [`KernelError`].
//!
//! Layout is token-major everywhere: `[batch, token, channel]`. The last dimension is contiguous, the strides of the
//! others are free, so that an op reads the halves of a projection in place. Tokens never move: an op that walks the
//! sequence in another order than the stored one is given a [`TokenMap`].
//!
//! Results do not depend on the number of threads: every sum is taken in a fixed order.

// The kernels read and write memory through pointers whose layout was checked, and use vector instructions.
#![allow(unsafe_code)]

pub mod adamw_ema;
pub mod causal_conv1d;
pub mod gpu;
pub mod norm_modulate;
pub mod selective_scan;

mod check;
mod cuda;
mod device;
mod error;
mod lanes;
mod pool;
mod rows;
mod token_map;
mod vector_units;
mod view;

pub use device::Queue;
pub use error::KernelError;
pub use token_map::TokenMap;
pub use vector_units::VectorUnits;
pub use view::{DType, Device, TensorView, TensorViewMut};
