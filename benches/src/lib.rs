//! What the benchmarks share: inputs, the machine's ceilings, and the comparison of a time with its floor.

#![forbid(unsafe_code)]

pub mod cuda;
pub mod scaling;

use std::ops::{Deref, DerefMut, Range};
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// Numbers that begin where a cache line does, as those of a tensor library do.
#[derive(Debug)]
pub struct Numbers {
    memory: Vec<f32>,
    used: Range<usize>,
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl Numbers {
    /// So many zeros.
    #[must_use]
    pub fn zeros(count: usize) -> Self {
        let memory = vec![0.0; count + LINE / size_of::<f32>()];
        let first = memory.as_ptr().align_offset(LINE);
        Self { memory, used: first..first + count }
    }

    /// So many numbers in ± 1 that any machine repeats, from a seed.
    #[must_use]
    pub fn random(count: usize, seed: u64) -> Self {
        let mut numbers = Self::zeros(count);
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for number in &mut *numbers {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            #[allow(clippy::cast_precision_loss)] // 24 bits
            let unit = (state >> 40) as f32 / 8_388_608.0;
            *number = unit - 1.0;
        }
        numbers
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.used.clone()]
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.used.clone()]
    }
}

/// How long a call takes.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The middle one of the sorted times.
    pub median: Duration,
    /// The times that a tenth and nine tenths of the calls stay below.
    pub spread: (Duration, Duration),
}

impl Timing {
    /// Times so many calls, after one that is not counted.
    pub fn of(runs: usize, mut call: impl FnMut()) -> Self {
        call();
        let mut times: Vec<Duration> = (0..runs.max(1))
            .map(|_| {
                let start = Instant::now();
                call();
                start.elapsed()
            })
            .collect();
        times.sort();
        let last = times.len() - 1;
        Self { median: times[times.len() / 2], spread: (times[last / 10], times[last - last / 10]) }
    }

    /// One line: the time, its spread, its floor, and the floor's share of the time.
    pub fn print_against(&self, name: &str, floor: Duration) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name}: median {:.3} ms ({:.3} to {:.3}), floor {:.3} ms: {:.0} % of the time, which is {:.2} floors",
            ms(self.median),
            ms(self.spread.0),
            ms(self.spread.1),
            ms(floor),
            100.0 * ms(floor) / ms(self.median),
            ms(self.median) / ms(floor),
        );
    }
}

/// Bytes a second at which all cores copy so many numbers, read and written bytes counted: the ceiling of a kernel that
/// does nothing else, on tensors of that size (small ones stay in a cache).
///
/// # Panics
/// If there are no numbers to copy.
#[must_use]
pub fn copy_bytes_per_s(count: usize) -> f64 {
    let from = Numbers::random(count, 1);
    let mut to = Numbers::zeros(count);
    assert!(count > 0, "a copy of nothing has no speed");
    let share = count.div_ceil(4 * rayon::current_num_threads());
    let copy = Timing::of(101, || {
        to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from))
    });
    #[allow(clippy::cast_precision_loss)] // a size in memory
    let bytes = (2 * size_of::<f32>() * count) as f64;
    bytes / copy.median.as_secs_f64()
}
