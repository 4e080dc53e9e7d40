//! Memory that an op reads or writes: pointer, dtype, device, shape, strides, lifetime.

mod dtype;
mod layout;

use std::ffi::c_void;
use std::marker::PhantomData;

pub use dtype::{DType, Device};
pub(crate) use layout::Layout;

use crate::error::KernelError;

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
