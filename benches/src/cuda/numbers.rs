//! Random numbers that a dtype holds exactly, on host and device, and their comparison with the f64 reference.

use dim_kernels::gpu::{DeviceTensor, Gpu};
use dim_kernels::{DType, KernelError};

use crate::Numbers;

/// Elements of the pattern that large tensors repeat: odd, so that rows differ.
const PATTERN: usize = 1_000_003;

/// So many numbers between two bounds, each one that `dtype` (f32 or bf16) holds.
#[must_use]
pub fn values(count: usize, seed: u64, (low, high): (f32, f32), dtype: DType) -> Vec<f64> {
    let numbers = Numbers::random(count, seed);
    numbers.iter().map(|unit| f64::from(rounded(low + (high - low) * (unit + 1.0) / 2.0, dtype))).collect()
}

/// A tensor of these values.
///
/// # Errors
/// An error of the device.
pub fn device_tensor(gpu: &Gpu, values: &[f64], dtype: DType, shape: &[usize]) -> Result<DeviceTensor, KernelError> {
    gpu.filled(dtype, shape, &encode(values, dtype))
}

/// A tensor of random numbers, which repeat.
///
/// # Errors
/// An error of the device.
pub fn patterned(
    gpu: &Gpu,
    shape: &[usize],
    seed: u64,
    bounds: (f32, f32),
    dtype: DType,
) -> Result<DeviceTensor, KernelError> {
    let count = shape.iter().product::<usize>().clamp(1, PATTERN);
    device_tensor(gpu, &values(count, seed, bounds, dtype), dtype, shape)
}

/// A range of columns of a matrix with rows of `width`.
#[must_use]
pub fn columns(values: &[f64], width: usize, first: usize, count: usize) -> Vec<f64> {
    values.chunks(width).flat_map(|row| row[first..first + count].iter().copied()).collect()
}

/// Accepts what is as near to the truth as a rounding to the tensor's dtype, and a little in sums, allow; the op's own tests,
/// which must be green as well, are stricter.
///
/// # Errors
/// The first element that is too far off.
pub fn assert_near(gpu: &Gpu, name: &str, tensor: &DeviceTensor, truth: &[f64]) -> Result<(), String> {
    let bytes = gpu.read(tensor).map_err(|error| error.to_string())?;
    let got = decode(&bytes, tensor.dtype());
    if got.len() != truth.len() {
        return Err(format!("{name} has {} elements, expected {}", got.len(), truth.len()));
    }
    let half_unit = if tensor.dtype() == DType::Bf16 { 1.0 / 256.0 } else { 0.0 };
    let largest = truth.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (index, (got, truth)) in got.iter().zip(truth).enumerate() {
        let allowed = half_unit * truth.abs() + 1e-4 * largest;
        // Written so that a NaN fails.
        let near = (got - truth).abs() <= allowed;
        if !near {
            return Err(format!("{name}[{index}] is {got:e}, expected {truth:e} ± {allowed:.1e}"));
        }
    }
    Ok(())
}

/// The nearest number of the dtype, ties to even.
fn rounded(value: f32, dtype: DType) -> f32 {
    if dtype != DType::Bf16 {
        return value;
    }
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000)
}

fn encode(values: &[f64], dtype: DType) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation)] // the dtype holds the values
    let bits = values.iter().map(|&value| (value as f32).to_bits());
    match dtype {
        DType::Bf16 => bits.flat_map(|bits| ((bits >> 16) as u16).to_le_bytes()).collect(),
        _ => bits.flat_map(u32::to_le_bytes).collect(),
    }
}

fn decode(bytes: &[u8], dtype: DType) -> Vec<f64> {
    let value = |bits: u32| f64::from(f32::from_bits(bits));
    match dtype {
        DType::Bf16 => {
            bytes.chunks_exact(2).map(|b| value(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)).collect()
        }
        _ => bytes.chunks_exact(4).map(|b| value(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_way_to_memory_and_back() {
        for dtype in [DType::F32, DType::Bf16] {
            let numbers = values(1000, 3, (-4.0, 1.0), dtype);
            assert!(numbers.iter().all(|value| (-4.0..=1.0).contains(value)));
            assert_eq!(decode(&encode(&numbers, dtype), dtype), numbers);
        }
    }

    #[test]
    fn rounding_goes_to_the_nearest_even() {
        let bf16 = |bits| f64::from(rounded(f32::from_bits(bits), DType::Bf16)).to_bits();
        let exact = |bits: u32| f64::from(f32::from_bits(bits)).to_bits();
        assert_eq!(bf16(0x3F80_8000), exact(0x3F80_0000));
        assert_eq!(bf16(0x3F81_8000), exact(0x3F82_0000));
        assert_eq!(bf16(0x3F80_8001), exact(0x3F81_0000));
    }

    #[test]
    fn columns_are_cut_out_of_every_row() {
        let matrix: Vec<f64> = (0..8).map(f64::from).collect();
        assert_eq!(columns(&matrix, 4, 1, 2), [1.0, 2.0, 5.0, 6.0]);
    }
}
