//! What the processor's vector units can do, measured: the ceiling that benchmarks compare kernels with.

use std::time::Instant;

use crate::lanes::{self, Kernel, Lanes, Task};

/// The speed of f32 vector arithmetic on all cores that kernels use.
#[derive(Clone, Copy, Debug)]
pub struct VectorUnits {
    /// f32 numbers in a vector.
    pub lanes: usize,
    /// Vector instructions (fused multiply-adds) a second, over all threads.
    pub instructions_per_s: f64,
}

impl VectorUnits {
    /// Measures with the widest vectors that the processor has, on every thread of the pool at once, for about
    /// a tenth of a second. The best of a few rounds counts.
    #[must_use]
    pub fn measure() -> Self {
        let best = (0..5).map(|_| {
            let each = rayon::broadcast(|_| {
                let mut result = Self { lanes: 0, instructions_per_s: 0.0 };
                lanes::run(Probe(&mut result));
                result
            });
            Self { lanes: each[0].lanes, instructions_per_s: each.iter().map(|unit| unit.instructions_per_s).sum() }
        });
        best.max_by(|a, b| a.instructions_per_s.total_cmp(&b.instructions_per_s)).unwrap_or_else(|| unreachable!())
    }
}

/// Chains of dependent multiply-adds: enough of them to keep two units busy over their latency.
const CHAINS: usize = 12;
const ROUNDS: usize = 4_000_000;

struct Probe<'a>(&'a mut VectorUnits);

impl Kernel for Probe<'_> {
    fn run<S: Lanes>(self, s: S) {
        let mut sums = vec![1.0; CHAINS * S::COUNT];
        let start = Instant::now();
        s.enter(MultiplyAdd(&mut sums));
        let seconds = start.elapsed().as_secs_f64();
        // The sums are used, so that the loop cannot be left out.
        let instructions = if sums.iter().all(|sum| sum.is_finite()) { CHAINS * ROUNDS } else { 0 };
        #[allow(clippy::cast_precision_loss)]
        let instructions_per_s = instructions as f64 / seconds;
        *self.0 = VectorUnits { lanes: S::COUNT, instructions_per_s };
    }
}

struct MultiplyAdd<'a>(&'a mut [f32]);

impl<S: Lanes> Task<S> for MultiplyAdd<'_> {
    #[inline(always)]
    fn run(self, s: S) {
        let (factor, term) = (s.load(&[0.999; 16][..S::COUNT.min(16)]), s.load(&[0.001; 16][..S::COUNT.min(16)]));
        let mut sums = [s.zero(); CHAINS];
        for (chain, sum) in sums.iter_mut().enumerate() {
            *sum = s.load(&self.0[chain * S::COUNT..]);
        }
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.mul_add(*sum, factor, term);
            }
        }
        for (chain, sum) in sums.iter().enumerate() {
            s.store(*sum, &mut self.0[chain * S::COUNT..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_and_counted() {
        let units = VectorUnits::measure();
        assert!(units.lanes.is_power_of_two() && units.instructions_per_s.is_finite());
        assert!(units.instructions_per_s > 0.0);
    }
}
