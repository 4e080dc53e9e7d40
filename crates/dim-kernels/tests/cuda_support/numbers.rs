//! Random numbers, dtypes, comparison.

use dim_kernels::DType;
use half::{bf16, f16};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Uniform numbers that `dtype` holds exactly, a function of seed and name.
pub fn random(seed: u64, name: &str, len: usize, (low, high): (f64, f64), dtype: DType) -> Vec<f64> {
    let stream = name.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    (0..len).map(|_| round(generator.random_range(low..high), dtype)).collect()
}

/// A shuffled `0..len`.
pub fn permutation(seed: u64, len: usize) -> Vec<u32> {
    let keys = random(seed, "permutation", len, (0.0, 1.0), DType::F32);
    let mut tokens: Vec<u32> = (0..u32::try_from(len).unwrap()).collect();
    tokens.sort_by(|&i, &j| keys[i as usize].total_cmp(&keys[j as usize]).then(i.cmp(&j)));
    tokens
}

pub fn encode(value: f64, dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F32 => (value as f32).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        DType::Bf16 => bf16::from_f64(value).to_le_bytes().to_vec(),
    }
}

pub fn decode(bytes: &[u8], dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
        DType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DType::Bf16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
    }
}

/// The nearest number that the dtype has.
pub fn round(value: f64, dtype: DType) -> f64 {
    decode(&encode(value, dtype), dtype)
}

/// Accepts each value that is as near to the truth as its dtype's rounding, and a sum's or product's of f32, allow.
///
/// The first is half a unit in the last place of each element; the second 1e-5 of the largest element of the
/// tensor, some eighty roundings of f32.
pub fn assert_close(name: &str, got: &[f64], truth: &[f64], dtype: DType) {
    assert_eq!(got.len(), truth.len(), "{name}");
    let half_unit = match dtype {
        DType::F32 => 0.0,
        DType::F16 => 2.0_f64.powi(-11),
        DType::Bf16 => 2.0_f64.powi(-8),
    };
    let largest = truth.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (i, (&got, &truth)) in got.iter().zip(truth).enumerate() {
        let allowed = half_unit * truth.abs() + 1e-5 * largest;
        // Written so that a NaN fails.
        let near = (got - truth).abs() <= allowed;
        assert!(near, "{name}[{i}]: got {got:e}, expected {truth:e} ± {allowed:.1e}");
    }
}
