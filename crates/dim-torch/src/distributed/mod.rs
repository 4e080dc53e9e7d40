//! Several processes that train one network together, by libtorch's own distributed engine, c10d: Gloo between CPUs, NCCL between
//! GPUs.
//!
//! [`World::join`] makes a process one of a run; its operations are called by all processes in the same order. [`Reducer`] adds up
//! gradients while the backward pass still runs.

mod group;
mod handshake;
mod heartbeat;
mod reducer;
mod store;
mod world;

pub use group::Pending;
pub use reducer::{Reducer, ReducerOptions, Split};
pub use world::{Place, Timeouts, World};
