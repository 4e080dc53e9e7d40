//! The last step of every reduction: partial sums, added in a fixed order.

use std::ffi::c_void;

use super::{Launch, Place, Stream, suffix};
use crate::error::KernelError;
use crate::view::{DType, TensorViewMut};

// As in kernels/common/sum_partials.cuh.
const ELEMENTS: usize = 32;
const THREADS: u32 = 256;
const MAX_SUMS: usize = 8;

/// One sum of a launch, as in `kernels/common/sum_partials.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Sum {
    partials: *const f32,
    out: *mut c_void,
    batch_stride: i64,
    row_stride: i64,
    count: i64,
    batch: i64,
    rows: i64,
    columns: i64,
    blocks: i64,
    is_f32: i64,
}

impl Sum {
    const NONE: Self = Self {
        partials: std::ptr::null(),
        out: std::ptr::null_mut(),
        batch_stride: 0,
        row_stride: 0,
        count: 0,
        batch: 0,
        rows: 0,
        columns: 0,
        blocks: 0,
        is_f32: 0,
    };

    /// Sums `partials`, `[count, ...shape of out]` and contiguous, into `out`, of one to three dimensions; zeros if there are none.
    pub(crate) fn new(partials: *const f32, count: usize, out: &mut TensorViewMut<'_>) -> Self {
        let place = Place::of_mut(out);
        let [batch, rows, columns] = match *out.shape() {
            [columns] => [1, 1, columns],
            [rows, columns] => [1, rows, columns],
            [batch, rows, columns] => [batch, rows, columns],
            _ => unreachable!("gradients that are summed have one to three dimensions"),
        };
        let long = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        Self {
            partials,
            out: place.pointer,
            batch_stride: place.batch_stride(),
            row_stride: place.row_stride(),
            count: long(count),
            batch: long(batch),
            rows: long(rows),
            columns: long(columns),
            blocks: long((batch * rows * columns).div_ceil(ELEMENTS)),
            is_f32: (out.dtype() == DType::F32).into(),
        }
    }
}

/// Does these sums, at most eight, in one launch; their results are f32 or of `dtype`.
///
/// # Safety
/// The partial sums must be on the stream's device, as large as said, and hold their values when the stream gets here.
pub(crate) unsafe fn sum_partials(stream: &Stream, dtype: DType, sums: &[Sum]) -> Result<(), KernelError> {
    let mut params = [Sum::NONE; MAX_SUMS];
    assert!(sums.len() <= MAX_SUMS, "a launch does at most {MAX_SUMS} sums");
    params[..sums.len()].copy_from_slice(sums);
    let kernel = format!("sum_partials_{}", suffix(dtype));
    let launch = Launch {
        source: "common/sum_partials",
        kernel: &kernel,
        blocks: sums.iter().map(|sum| usize::try_from(sum.blocks).unwrap_or(0)).sum(),
        threads: THREADS,
        shared_bytes: 0,
    };
    // SAFETY: the kernel takes an array of `Sum`; the results are checked views, and the caller vouches for the partial sums.
    unsafe { stream.launch(launch, &mut [(&raw mut params).cast()]) }
}
