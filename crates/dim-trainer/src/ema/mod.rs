//! Averages of the weights under power-function profiles, and any such average after training: Karras et al., "Analyzing and Improving the
//! Training Dynamics of Diffusion Models" (EDM2), arXiv 2312.02696, section 3 and appendix C.
//!
//! ```text
//! training ─▶ PowerAverages (one for each `ema.sigma_rel`) ─▶ RUN/ema/ (snapshots)
//!                                                                │
//! `ema --sigma-rel S` ─▶ reconstruct (least squares in f64) ◀────┘ ─▶ weights
//! ```

mod averages;
mod profile;
mod reconstruct;
pub mod snapshot;

pub use averages::PowerAverages;
pub use profile::PowerProfile;
pub use reconstruct::{Combination, Stored, combination};
