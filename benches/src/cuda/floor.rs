//! The least time that an op can take: what it must move at the speed of a copy, or what it must exponentiate.

use serde::{Deserialize, Serialize};

/// Exponentials (and logarithms and reciprocals) that a multiprocessor starts in a clock.
const EXPONENTIALS_PER_CLOCK: f64 = 16.0;

/// What an op must do at least, counted by hand.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Bytes of inputs, each read once, and of outputs, each written once.
    pub bytes: f64,
    /// Results of the exponential unit.
    pub exponentials: f64,
}

/// What a card can do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes a second of a large copy, read and written, measured in the same run.
    pub copy_bytes_per_s: f64,
    /// At the highest clock that the driver names: a card that runs slower under load cannot reach it.
    pub exponentials_per_s: f64,
}

impl Ceilings {
    /// The ceilings of so many multiprocessors at this clock.
    #[must_use]
    pub fn new(copy_bytes_per_s: f64, multiprocessors: u32, clock_hz: f64) -> Self {
        Self { copy_bytes_per_s, exponentials_per_s: EXPONENTIALS_PER_CLOCK * f64::from(multiprocessors) * clock_hz }
    }

    /// Seconds below which no op can stay that does `work`.
    #[must_use]
    pub fn floor_s(&self, work: Work) -> f64 {
        (work.bytes / self.copy_bytes_per_s).max(work.exponentials / self.exponentials_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_is_the_narrower_of_two_ways() {
        let ceilings = Ceilings::new(4e12, 132, 1.98e9);
        assert!((ceilings.exponentials_per_s - 4.182e12).abs() < 1e9);
        let floor = |bytes, exponentials| ceilings.floor_s(Work { bytes, exponentials });
        assert!((floor(4e9, 0.0) - 1e-3).abs() < 1e-12);
        assert!((floor(4e9, 4.181_76e12) - 1.0).abs() < 1e-9);
    }
}
