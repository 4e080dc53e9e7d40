//! Tensors in device memory, between guards, with gaps between their rows.

use cudarc::driver::{result, sys};
use dim_kernels::{DType, Device, TensorView, TensorViewMut};

use super::numbers::{decode, encode};

/// Elements before and behind a tensor that nobody may write.
const GUARD: usize = 64;

/// How a tensor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    Contiguous,
    /// With gaps between rows and between batches, as in a slice of a projection's output.
    Strided,
    /// The same, with every row aligned to eight elements.
    StridedAligned,
    /// Without gaps, but from one element behind an aligned place on.
    Unaligned,
}

/// A tensor in the memory of the first CUDA device. All that is not an element is NaN, and must stay so.
pub struct DeviceTensor {
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Index in memory of the first element.
    start: usize,
    before: Vec<u8>,
    memory: sys::CUdeviceptr,
}

impl DeviceTensor {
    /// A tensor that holds these values, which `dtype` must be able to hold.
    pub fn of(values: &[f64], dtype: DType, shape: &[usize], placement: Placement) -> Self {
        let mut tensor = Self::layout(dtype, shape, placement);
        assert_eq!(values.len(), shape.iter().product::<usize>());
        let size = dtype.size_bytes();
        for (at, &value) in tensor.positions().into_iter().zip(values) {
            tensor.before[at * size..][..size].copy_from_slice(&encode(value, dtype));
        }
        tensor.upload();
        tensor
    }

    /// A tensor to be written, full of NaNs.
    pub fn unwritten(dtype: DType, shape: &[usize], placement: Placement) -> Self {
        let mut tensor = Self::layout(dtype, shape, placement);
        tensor.upload();
        tensor
    }

    fn layout(dtype: DType, shape: &[usize], placement: Placement) -> Self {
        let gapped = |length: usize| match placement {
            Placement::Contiguous | Placement::Unaligned => length,
            Placement::Strided => length + 3,
            Placement::StridedAligned => (length + 3).next_multiple_of(8),
        };
        let mut strides = vec![1; shape.len()];
        for dimension in (1..shape.len()).rev() {
            strides[dimension - 1] = gapped(strides[dimension] * shape[dimension].max(1));
        }
        let start = GUARD + usize::from(placement == Placement::Unaligned);
        let elements = GUARD + start + strides.first().map_or(1, |stride| stride * shape[0].max(1));
        let before = encode(f64::NAN, dtype).repeat(elements);
        Self { dtype, shape: shape.to_vec(), strides, start, before, memory: 0 }
    }

    fn upload(&mut self) {
        // SAFETY: the tests' context is current; the memory is allocated of the size that is copied.
        unsafe {
            self.memory = result::malloc_sync(self.before.len()).unwrap();
            result::memcpy_htod_sync(self.memory, &self.before).unwrap();
            result::ctx::synchronize().unwrap();
        }
    }

    /// Index in memory of every element, in order.
    fn positions(&self) -> Vec<usize> {
        let mut positions = vec![self.start];
        for (&len, &stride) in self.shape.iter().zip(&self.strides) {
            positions = positions.iter().flat_map(|&at| (0..len).map(move |i| at + i * stride)).collect();
        }
        positions
    }

    fn first(&self) -> sys::CUdeviceptr {
        self.memory + (self.start * self.dtype.size_bytes()) as u64
    }

    pub fn view(&self) -> TensorView<'_> {
        let pointer = self.first() as *const _;
        // SAFETY: `layout` and `upload` made the memory for these strides; the tests write it through `view_mut` only.
        unsafe { TensorView::from_raw_parts(pointer, self.dtype, Device::Cuda(0), &self.shape, &self.strides) }.unwrap()
    }

    /// Some neighbouring elements of a contiguous vector.
    pub fn part(&self, first: usize, length: usize) -> TensorView<'_> {
        assert!(self.shape.len() == 1 && first + length <= self.shape[0]);
        let pointer = (self.first() + (first * self.dtype.size_bytes()) as u64) as *const _;
        // SAFETY: as in `view`; the elements are among the tensor's.
        unsafe { TensorView::from_raw_parts(pointer, self.dtype, Device::Cuda(0), &[length], &[1]) }.unwrap()
    }

    pub fn view_mut(&mut self) -> TensorViewMut<'_> {
        let pointer = self.first() as *mut _;
        // SAFETY: as in `view`, and the borrow is exclusive.
        unsafe { TensorViewMut::from_raw_parts(pointer, self.dtype, Device::Cuda(0), &self.shape, &self.strides) }
            .unwrap()
    }

    /// The elements, after a check that nothing else was written.
    pub fn read(&self, name: &str) -> Vec<f64> {
        let mut after = vec![0; self.before.len()];
        // SAFETY: as in `upload`; the callers have waited for the kernels.
        unsafe { result::memcpy_dtoh_sync(&mut after, self.memory).unwrap() };
        let size = self.dtype.size_bytes();
        let positions = self.positions();
        let values = positions.iter().map(|&at| decode(&after[at * size..][..size], self.dtype)).collect();
        let mut is_element = vec![false; self.before.len() / size];
        positions.iter().for_each(|&at| is_element[at] = true);
        for (at, _) in is_element.iter().enumerate().filter(|(_, is_element)| !**is_element) {
            let bytes = at * size..(at + 1) * size;
            assert_eq!(
                after[bytes.clone()],
                self.before[bytes],
                "{name}: memory beside the tensor was written, at {at}"
            );
        }
        values
    }
}

impl Drop for DeviceTensor {
    fn drop(&mut self) {
        // SAFETY: allocated by `upload`; nothing refers to it any more.
        let _ = unsafe { result::free_sync(self.memory) };
    }
}
