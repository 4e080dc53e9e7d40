//! The last step of every reduction: partial sums, added in a fixed order.

use std::ffi::c_void;

use super::{Launch, Place, Stream};
use crate::error::KernelError;
use crate::view::{DType, TensorViewMut};

/// Elements that a block sums; as in `kernels/common/sum_partials.cuh`.
const ELEMENTS: usize = 32;
const THREADS: u32 = 256;

/// The parameters, as in `kernels/common/sum_partials.cuh`.
#[repr(C)]
struct Params {
    partials: *const f32,
    out: *mut c_void,
    batch_stride: i64,
    row_stride: i64,
    count: i64,
    batch: i64,
    rows: i64,
    columns: i64,
}

/// Sums `partials`, `[count, ...shape of out]` and contiguous, into `out`, of up to three dimensions; zeros if there are none.
///
/// # Safety
/// `partials` must be as large on the stream's device, and hold its values when the stream gets here.
pub(crate) unsafe fn sum_partials(
    stream: &Stream,
    partials: *const f32,
    count: usize,
    out: &mut TensorViewMut<'_>,
) -> Result<(), KernelError> {
    let place = Place::of_mut(out);
    let [batch, rows, columns] = match *out.shape() {
        [columns] => [1, 1, columns],
        [rows, columns] => [1, rows, columns],
        [batch, rows, columns] => [batch, rows, columns],
        _ => unreachable!("gradients that are summed have one to three dimensions"),
    };
    let dtype = out.dtype();
    let long = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    let mut params = Params {
        partials,
        out: place.pointer,
        batch_stride: place.batch_stride(),
        row_stride: place.row_stride(),
        count: long(count),
        batch: long(batch),
        rows: long(rows),
        columns: long(columns),
    };
    let kernel = match dtype {
        DType::F32 => "sum_partials_f32",
        DType::F16 => "sum_partials_f16",
        DType::Bf16 => "sum_partials_bf16",
    };
    let launch = Launch {
        source: "common/sum_partials",
        kernel,
        blocks: (batch * rows * columns).div_ceil(ELEMENTS),
        threads: THREADS,
        shared_bytes: 0,
    };
    // SAFETY: the kernel takes one `Params`; `out` is a checked view, and the caller vouches for the partial sums.
    unsafe { stream.launch(launch, &mut [(&raw mut params).cast()]) }
}
