//! Tensors with guard bands: everything that is no element is a NaN of a known pattern, before and after.

use dim_kernels::{DType, Device, TensorView, TensorViewMut};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A quiet NaN that no arithmetic yields by itself.
const GUARD: u32 = 0x7fed_cba9;

/// Elements in front of the tensor and behind it.
const BAND: usize = 19;

/// Where the rows of a tensor lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// One behind the other.
    Contiguous,
    /// With gaps behind every row and every batch, as in a slice of a wider tensor.
    Strided,
}

/// A tensor between guards.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    memory: Vec<f32>,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Buffer {
    /// A tensor of NaNs, to be overwritten.
    pub(crate) fn unwritten(shape: &[usize], placement: Placement) -> Self {
        let (row_gap, batch_gap) = match placement {
            Placement::Contiguous => (0, 0),
            Placement::Strided => (13, 5),
        };
        let mut strides = vec![1; shape.len()];
        for dimension in (1..shape.len()).rev() {
            let gap = if dimension == shape.len() - 1 { row_gap } else { batch_gap };
            strides[dimension - 1] = strides[dimension] * shape[dimension] + gap;
        }
        let extent = strides[0] * shape[0];
        Self { memory: vec![f32::from_bits(GUARD); extent + 2 * BAND], shape: shape.to_vec(), strides }
    }

    /// A tensor of given elements.
    pub(crate) fn of(values: &[f32], shape: &[usize], placement: Placement) -> Self {
        let mut buffer = Self::unwritten(shape, placement);
        let offsets = buffer.offsets();
        assert_eq!(values.len(), offsets.len());
        for (offset, value) in offsets.into_iter().zip(values) {
            buffer.memory[offset] = *value;
        }
        buffer
    }

    pub(crate) fn view(&self) -> TensorView<'_> {
        let pointer = self.memory[BAND..].as_ptr().cast();
        // SAFETY: the elements that shape and strides name lie in `memory`, which is borrowed as long as the view lives.
        unsafe { TensorView::from_raw_parts(pointer, DType::F32, Device::Cpu, &self.shape, &self.strides) }.unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> TensorViewMut<'_> {
        let pointer = self.memory[BAND..].as_mut_ptr().cast();
        // SAFETY: as above; the borrow is exclusive.
        unsafe { TensorViewMut::from_raw_parts(pointer, DType::F32, Device::Cpu, &self.shape, &self.strides) }.unwrap()
    }

    /// The elements in order, after checking that nothing else was touched.
    pub(crate) fn values(&self) -> Vec<f32> {
        let offsets = self.offsets();
        let mut is_element = vec![false; self.memory.len()];
        for &offset in &offsets {
            is_element[offset] = true;
        }
        for (at, (value, is_element)) in self.memory.iter().zip(is_element).enumerate() {
            assert!(is_element || value.to_bits() == GUARD, "memory beside the elements was written, at {at}");
        }
        offsets.into_iter().map(|offset| self.memory[offset]).collect()
    }

    fn offsets(&self) -> Vec<usize> {
        let mut offsets = vec![BAND];
        for (&len, &stride) in self.shape.iter().zip(&self.strides) {
            offsets = offsets.iter().flat_map(|offset| (0..len).map(move |i| offset + i * stride)).collect();
        }
        offsets
    }
}

/// Uniform numbers in a range.
pub(crate) fn random(seed: u64, name: &str, len: usize, low: f32, high: f32) -> Vec<f32> {
    let stream = name.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(257).wrapping_add(u64::from(byte)));
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    (0..len).map(|_| generator.random_range(low..high)).collect()
}

/// A random permutation.
pub(crate) fn permutation(seed: u64, len: usize) -> Vec<u32> {
    let keys = random(seed, "permutation", len, 0.0, 1.0);
    let mut steps: Vec<u32> = (0..len as u32).collect();
    steps.sort_by(|&i, &j| keys[i as usize].total_cmp(&keys[j as usize]));
    steps
}

pub(crate) fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Checks every element, relative to the largest one of the truth.
///
/// An element is a sum of `terms` numbers around one. Its roundings are those of its partial sums, around `sqrt(terms)`,
/// also where the terms happen to cancel, so the error is never taken relative to less than that; 0 for no such sum.
pub(crate) fn assert_close(what: &str, got: &[f32], truth: &[f64], terms: usize, tolerance: f64) {
    assert_close_to(what, got, truth, (terms as f64).sqrt(), tolerance);
}

/// Checks every element, relative to the largest one of the truth or to `least`, whichever is larger.
pub(crate) fn assert_close_to(what: &str, got: &[f32], truth: &[f64], least: f64, tolerance: f64) {
    assert_eq!(got.len(), truth.len(), "{what}: number of elements");
    let largest = truth.iter().fold(least.max(1e-30), |largest, value| largest.max(value.abs()));
    for (at, (&got, &truth)) in got.iter().zip(truth).enumerate() {
        let error = (f64::from(got) - truth).abs() / largest;
        assert!(error <= tolerance, "{what}[{at}] is {got}, not {truth}: {error:.2e} of the largest, {largest:.3e}");
    }
}
