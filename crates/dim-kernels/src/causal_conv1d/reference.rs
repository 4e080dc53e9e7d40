//! The convolution as its definition reads, in f64, sequentially.
