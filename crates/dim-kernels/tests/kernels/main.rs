//! The kernels against their f64 references and published results.
#![allow(clippy::unwrap_used)]
// Views of guarded memory are made from raw pointers, as the callers from other tensor libraries make them.
#![allow(unsafe_code)]

mod buffer;
mod conv;
mod golden;
mod scan;
mod scan_case;
