//! The kernels against their f64 references, published results and the laws they obey.
#![allow(clippy::unwrap_used)]
// Views of guarded memory are made from raw pointers, as the callers from other tensor libraries make them.
#![allow(unsafe_code)]

mod adamw_ema;
mod arguments;
mod buffer;
mod conv;
mod finite_differences;
mod golden;
mod laws;
mod norm;
mod scan;
mod scan_case;
mod threads;
mod token_map;
