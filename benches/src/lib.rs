//! What the benchmarks share: inputs, the machine's ceilings, and the comparison of a time with its floor.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// Numbers in ± 1 that any machine repeats, from a seed.
#[must_use]
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            #[allow(clippy::cast_precision_loss)] // 24 bits
            let unit = (state >> 40) as f32 / 8_388_608.0;
            unit - 1.0
        })
        .collect()
}

/// The median time of `runs` calls, after one that is not counted.
pub fn median(runs: usize, mut call: impl FnMut()) -> Duration {
    call();
    let mut times: Vec<Duration> = (0..runs.max(1))
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// One line: a time, its floor, and how many times the floor it is.
pub fn print_against_floor(name: &str, time: Duration, floor: Duration) {
    println!(
        "{name}: {:.2} ms, floor {:.2} ms, {:.2} times the floor",
        time.as_secs_f64() * 1e3,
        floor.as_secs_f64() * 1e3,
        time.as_secs_f64() / floor.as_secs_f64()
    );
}

/// Bytes a second that all cores copy, read and written ones counted: the ceiling of a kernel that only moves memory.
#[must_use]
pub fn copy_bytes_per_s() -> f64 {
    const ELEMENTS: i64 = 64 << 20;
    let options = (tch::Kind::Float, tch::Device::Cpu);
    let (from, mut to) = (tch::Tensor::ones([ELEMENTS], options), tch::Tensor::zeros([ELEMENTS], options));
    let time = median(7, || to.copy_(&from));
    2.0 * 4.0 * 67_108_864.0 / time.as_secs_f64()
}
