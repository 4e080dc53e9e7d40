//! What the CUDA side of every op needs: the device's primary context, its modules, launches, memory.
//!
//! Nothing here waits for the device but the first use of a token map, which copies it there.

mod device;
mod device_tokens;
mod images;
mod stream;
mod sum_partials;
mod workspace;

pub(crate) use device_tokens::DeviceTokens;
pub(crate) use stream::{Launch, Stream};
pub(crate) use sum_partials::{Sum, sum_partials};
pub(crate) use workspace::Workspace;

use std::ffi::c_void;

use cudarc::driver::result::DriverError;

use crate::error::KernelError;
use crate::view::{DType, TensorView, TensorViewMut};

/// Says which call of the driver failed, for which op.
fn check<T>(op: &'static str, call: &'static str, result: Result<T, DriverError>) -> Result<T, KernelError> {
    result.map_err(|error| KernelError::Cuda { op, call, message: format!("{error:?}") })
}

/// A dtype in the names of kernels.
pub(crate) fn suffix(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::Bf16 => "bf16",
    }
}

/// A size as kernels take it; the checks have refused what does not fit.
pub(crate) fn size(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Where a view's memory starts and its strides, as kernels take them: those of the last dimension are 1 and left out.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) pointer: *mut c_void,
    strides: [i64; 3],
    rank: usize,
}

impl Place {
    const ABSENT: Self = Self { pointer: std::ptr::null_mut(), strides: [0; 3], rank: 0 };

    fn new(pointer: *mut c_void, strides: &[usize]) -> Self {
        let mut place = Self { pointer, strides: [0; 3], rank: strides.len() };
        // A layout's extent was checked to fit isize, so the strides that matter fit; those of dimensions of length 1 do not matter.
        for (to, &from) in place.strides.iter_mut().zip(strides) {
            *to = i64::try_from(from).unwrap_or(0);
        }
        place
    }

    /// Memory that a kernel reads.
    pub(crate) fn of(view: &TensorView<'_>) -> Self {
        Self::new(view.as_ptr().cast_mut(), view.strides())
    }

    /// Memory that a kernel reads, or none.
    pub(crate) fn of_optional(view: Option<&TensorView<'_>>) -> Self {
        view.map_or(Self::ABSENT, Self::of)
    }

    /// Memory that a kernel writes.
    pub(crate) fn of_mut(view: &mut TensorViewMut<'_>) -> Self {
        Self::new(view.as_mut_ptr(), view.strides())
    }

    /// Memory that a kernel writes, or none.
    pub(crate) fn of_optional_mut(view: Option<&mut TensorViewMut<'_>>) -> Self {
        view.map_or(Self::ABSENT, Self::of_mut)
    }

    /// Distance of the outermost dimension's elements: of batches, where there are three dimensions.
    pub(crate) fn batch_stride(self) -> i64 {
        if self.rank == 3 { self.strides[0] } else { 0 }
    }

    /// Distance of the rows: the dimension before the last.
    pub(crate) fn row_stride(self) -> i64 {
        if self.rank >= 2 { self.strides[self.rank - 2] } else { 0 }
    }
}
