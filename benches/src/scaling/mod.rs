//! Whole networks against each other as images grow: what `cargo xtask bench-scaling` runs.
//!
//! ```text
//! configs/bench/*.toml ─▶ SweepConfig ─▶ plan ─▶ worker (a process: builds networks, times them) ─▶ RUN/run.jsonl
//!                                                   ▲ one task a line, one answer a line              │
//!                                                sweep (survives the worker, resumes) ◀───────────────┴─▶ dim-report
//! ```
//!
//! The worker is a process of its own so that a point for which memory does not suffice, on the device or on the host, ends
//! that point and not the sweep.

pub mod ceilings;
pub mod config;
mod error;
pub mod floor;
pub mod measure;
pub mod memory;
pub mod network;
pub mod plan;
pub mod profile;
pub mod progress;
pub mod sweep;
pub mod worker;

pub use config::SweepConfig;
pub use error::SweepError;
pub use plan::{Task, plan};
