//! Random numbers that depend on what they are for, never on when they are drawn.
//!
//! Every number is a function of a seed, the name of its stream and the sample it belongs to. So a batch may be
//! split over devices, cut at a checkpoint or drawn by another number of threads, and every sample still gets the
//! same noise.

mod step;
mod stream;

pub use step::{SampleNoise, StepNoise};
pub use stream::NoiseStream;
