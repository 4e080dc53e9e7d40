//! Memory that an op reads or writes: pointer, dtype, device, shape, strides, lifetime.

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;

use crate::error::KernelError;

/// The element type of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl DType {
    /// Size of one element in bytes.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// Whose memory a view points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The host.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("the CPU"),
            Self::Cuda(ordinal) => write!(f, "CUDA device {ordinal}"),
        }
    }
}

/// The most dimensions that a view can have.
pub(crate) const MAX_RANK: usize = 4;

/// Everything about a view but its pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: DType,
    pub(crate) device: Device,
    rank: usize,
    shape: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
}

impl Layout {
    fn new(dtype: DType, device: Device, shape: &[usize], strides: &[usize]) -> Result<Self, KernelError> {
        let error = |expected: String, got: String| KernelError::View { shape: shape.to_vec(), expected, got };
        if shape.len() > MAX_RANK {
            return Err(error(format!("at most {MAX_RANK} dimensions"), format!("{} dimensions", shape.len())));
        }
        if strides.len() != shape.len() {
            return Err(error(format!("{} strides", shape.len()), format!("the strides {strides:?}")));
        }
        let mut layout = Self { dtype, device, rank: shape.len(), shape: [1; MAX_RANK], strides: [0; MAX_RANK] };
        layout.shape[..shape.len()].copy_from_slice(shape);
        layout.strides[..shape.len()].copy_from_slice(strides);
        // So that no later offset in elements or bytes can overflow.
        let bytes = layout.extent().and_then(|elements| elements.checked_mul(dtype.size_bytes()));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(error("an extent of at most isize::MAX bytes".into(), format!("the strides {strides:?}")));
        }
        Ok(layout)
    }

    fn contiguous(dtype: DType, device: Device, shape: &[usize]) -> Result<Self, KernelError> {
        let mut strides = [1_usize; MAX_RANK];
        let rank = shape.len().min(MAX_RANK);
        for dimension in (1..rank).rev() {
            strides[dimension - 1] = strides[dimension].saturating_mul(shape[dimension].max(1));
        }
        Self::new(dtype, device, shape, &strides[..rank])
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }

    pub(crate) fn strides(&self) -> &[usize] {
        &self.strides[..self.rank]
    }

    /// Number of elements from the first one to behind the last one, gaps included; None if it overflows.
    fn extent(&self) -> Option<usize> {
        if self.shape().contains(&0) {
            return Some(0);
        }
        let mut last = 0_usize;
        for (&len, &stride) in self.shape().iter().zip(self.strides()) {
            last = last.checked_add((len - 1).checked_mul(stride)?)?;
        }
        last.checked_add(1)
    }

    /// Whether an element's neighbour in the last dimension is its neighbour in memory.
    pub(crate) fn rows_are_contiguous(&self) -> bool {
        match (self.shape().last(), self.strides().last()) {
            (Some(&len), Some(&stride)) => len <= 1 || stride == 1,
            _ => true,
        }
    }

    /// Whether no two indices name the same element, judged by nesting: each dimension steps over the whole of the
    /// dimensions with smaller strides. (Stranger layouts without overlap exist; nobody has them.)
    pub(crate) fn elements_are_distinct(&self) -> bool {
        if self.shape().contains(&0) {
            return true;
        }
        let mut dimensions: Vec<(usize, usize)> =
            self.strides().iter().copied().zip(self.shape().iter().copied()).filter(|&(_, len)| len > 1).collect();
        dimensions.sort_unstable();
        let mut extent = 1;
        dimensions.into_iter().all(|(stride, len)| {
            let distinct = stride >= extent;
            extent += (len - 1) * stride;
            distinct
        })
    }
}

/// Memory that an op reads.
///
/// Shape and strides are in elements. Ops ask that the last dimension be contiguous and leave the other strides free.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    pointer: *const c_void,
    pub(crate) layout: Layout,
    lifetime: PhantomData<&'a [u8]>,
}

/// Memory that an op overwrites.
///
/// Shape and strides are in elements. Ops ask that the last dimension be contiguous and that no two elements
/// overlap, and leave the other strides free. An op touches the view's elements only, never the gaps between them.
#[derive(Debug)]
pub struct TensorViewMut<'a> {
    pointer: *mut c_void,
    pub(crate) layout: Layout,
    lifetime: PhantomData<&'a mut [u8]>,
}

// SAFETY: a view is a shared borrow of plain numbers, as `&[f32]` is; its pointer is never written through.
unsafe impl Send for TensorView<'_> {}
// SAFETY: as above.
unsafe impl Sync for TensorView<'_> {}
// SAFETY: a view is an exclusive borrow of plain numbers, as `&mut [f32]` is.
unsafe impl Send for TensorViewMut<'_> {}
// SAFETY: through a shared reference to it, nothing can be written.
unsafe impl Sync for TensorViewMut<'_> {}

fn check_length(layout: &Layout, len: usize) -> Result<(), KernelError> {
    let elements: usize = layout.shape().iter().product();
    if elements == len {
        return Ok(());
    }
    Err(KernelError::View {
        shape: layout.shape().to_vec(),
        expected: format!("{elements} elements"),
        got: format!("a slice of {len}"),
    })
}

impl<'a> TensorView<'a> {
    /// Views a whole slice as a contiguous tensor on the CPU.
    ///
    /// # Errors
    /// [`KernelError::View`] if the slice has another number of elements than the shape, or the shape more than four dimensions.
    pub fn from_slice(values: &'a [f32], shape: &[usize]) -> Result<Self, KernelError> {
        let layout = Layout::contiguous(DType::F32, Device::Cpu, shape)?;
        check_length(&layout, values.len())?;
        Ok(Self { pointer: values.as_ptr().cast(), layout, lifetime: PhantomData })
    }

    /// Views memory that something else owns.
    ///
    /// # Errors
    /// [`KernelError::View`] if there are more than four dimensions, not one stride for each, or more than `isize::MAX` bytes.
    ///
    /// # Safety
    /// For the lifetime `'a` every element that shape and strides name must be readable on the device, initialised,
    /// aligned for `dtype`, and not written by anyone. (A CUDA stream that runs earlier work on them is fine.)
    pub unsafe fn from_raw_parts(
        pointer: *const c_void,
        dtype: DType,
        device: Device,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self, KernelError> {
        Ok(Self { pointer, layout: Layout::new(dtype, device, shape, strides)?, lifetime: PhantomData })
    }
}

impl<'a> TensorViewMut<'a> {
    /// Views a whole slice as a contiguous tensor on the CPU.
    ///
    /// # Errors
    /// [`KernelError::View`] if the slice has another number of elements than the shape, or the shape more than four dimensions.
    pub fn from_slice(values: &'a mut [f32], shape: &[usize]) -> Result<Self, KernelError> {
        let layout = Layout::contiguous(DType::F32, Device::Cpu, shape)?;
        check_length(&layout, values.len())?;
        Ok(Self { pointer: values.as_mut_ptr().cast(), layout, lifetime: PhantomData })
    }

    /// Views memory that something else owns.
    ///
    /// # Errors
    /// [`KernelError::View`] if there are more than four dimensions, not one stride for each, or more than `isize::MAX` bytes.
    ///
    /// # Safety
    /// For the lifetime `'a` every element that shape and strides name must be writable on the device, initialised or
    /// of a type without invalid values, aligned for `dtype`, and not read or written by anyone else. Elements in the gaps between the view's rows may
    /// belong to others.
    pub unsafe fn from_raw_parts(
        pointer: *mut c_void,
        dtype: DType,
        device: Device,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self, KernelError> {
        Ok(Self { pointer, layout: Layout::new(dtype, device, shape, strides)?, lifetime: PhantomData })
    }

    /// A shorter exclusive borrow of the same memory.
    #[must_use]
    pub fn reborrow(&mut self) -> TensorViewMut<'_> {
        TensorViewMut { pointer: self.pointer, layout: self.layout, lifetime: PhantomData }
    }

    /// A shared borrow of the same memory.
    #[must_use]
    pub fn as_view(&self) -> TensorView<'_> {
        TensorView { pointer: self.pointer, layout: self.layout, lifetime: PhantomData }
    }

    /// The first element.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut c_void {
        self.pointer
    }
}

macro_rules! accessors {
    ($view:ident) => {
        impl $view<'_> {
            /// The first element.
            #[must_use]
            pub fn as_ptr(&self) -> *const c_void {
                self.pointer as *const c_void
            }

            /// The element type.
            #[must_use]
            pub fn dtype(&self) -> DType {
                self.layout.dtype
            }

            /// Whose memory it is.
            #[must_use]
            pub fn device(&self) -> Device {
                self.layout.device
            }

            /// Number of elements in each dimension.
            #[must_use]
            pub fn shape(&self) -> &[usize] {
                self.layout.shape()
            }

            /// Distance of neighbours in each dimension, in elements.
            #[must_use]
            pub fn strides(&self) -> &[usize] {
                self.layout.strides()
            }
        }
    };
}

accessors!(TensorView);
accessors!(TensorViewMut);
