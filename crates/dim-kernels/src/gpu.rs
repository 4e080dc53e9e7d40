//! A GPU for programs without a tensor library, such as benchmarks: what it is, its memory, and how long work takes on it.
//!
//! Everything happens on the default stream of the device's primary context, in order.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError, sys};

use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{DType, Device, TensorView, TensorViewMut};

const OP: &str = "gpu";

fn check<T>(call: &'static str, result: Result<T, DriverError>) -> Result<T, KernelError> {
    result.map_err(|error| KernelError::Cuda { op: OP, call, message: format!("{error:?}") })
}

/// A CUDA device.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    ordinal: usize,
}

impl Gpu {
    /// The device of this number.
    ///
    /// # Errors
    /// [`KernelError::Cuda`] without a driver or such a device.
    pub fn open(ordinal: usize) -> Result<Self, KernelError> {
        // SAFETY: opening the driver's library runs its initialisers, which have no preconditions.
        if !unsafe { sys::is_culib_present() } {
            let message = "the CUDA driver's library is not installed".to_owned();
            return Err(KernelError::Cuda { op: OP, call: "dlopen", message });
        }
        let context = check("cuDevicePrimaryCtxRetain", CudaContext::new(ordinal))?;
        let stream = context.default_stream();
        Ok(Self { context, stream, ordinal })
    }

    /// Where kernels run in order with everything else of this device here.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue::Cuda { ordinal: self.ordinal, stream: self.stream.cu_stream().cast() }
    }

    /// The card's name.
    ///
    /// # Errors
    /// [`KernelError::Cuda`], as of every function here.
    pub fn name(&self) -> Result<String, KernelError> {
        check("cuDeviceGetName", self.context.name())
    }

    /// Number of multiprocessors.
    ///
    /// # Errors
    /// [`KernelError::Cuda`].
    pub fn multiprocessors(&self) -> Result<u32, KernelError> {
        self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
    }

    /// Highest clock of the multiprocessors, in hertz.
    ///
    /// # Errors
    /// [`KernelError::Cuda`].
    pub fn clock_hz(&self) -> Result<f64, KernelError> {
        Ok(1e3 * f64::from(self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?))
    }

    /// Bytes of the cache that all multiprocessors share.
    ///
    /// # Errors
    /// [`KernelError::Cuda`].
    pub fn l2_bytes(&self) -> Result<usize, KernelError> {
        Ok(self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize)
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<u32, KernelError> {
        check("cuDeviceGetAttribute", self.context.attribute(attribute)).map(|value| u32::try_from(value).unwrap_or(0))
    }

    /// A contiguous tensor of zeros.
    ///
    /// # Errors
    /// [`KernelError::Cuda`] if there is no memory.
    pub fn zeros(&self, dtype: DType, shape: &[usize]) -> Result<DeviceTensor, KernelError> {
        let bytes = dtype.size_bytes() * shape.iter().product::<usize>();
        // No driver allocates nothing.
        let memory = check("cuMemAllocAsync", self.stream.alloc_zeros(bytes.max(1)))?;
        Ok(DeviceTensor { memory, bytes, dtype, shape: shape.to_vec(), ordinal: self.ordinal })
    }

    /// A contiguous tensor that holds `pattern`, repeated to its end; the last repetition may be cut short.
    ///
    /// # Errors
    /// [`KernelError::Cuda`] if there is no memory.
    ///
    /// # Panics
    /// If the pattern is empty.
    pub fn filled(&self, dtype: DType, shape: &[usize], pattern: &[u8]) -> Result<DeviceTensor, KernelError> {
        assert!(!pattern.is_empty(), "nothing to fill a tensor with");
        let mut tensor = self.zeros(dtype, shape)?;
        let mut done = pattern.len().min(tensor.bytes);
        check("cuMemcpyHtoD", self.stream.memcpy_htod(&pattern[..done], &mut tensor.memory.slice_mut(..done)))?;
        while done < tensor.bytes {
            // What is there holds whole patterns, so that its beginning continues it.
            let count = done.min(tensor.bytes - done);
            let (from, mut to) = tensor.memory.split_at_mut(done);
            check("cuMemcpyDtoD", self.stream.memcpy_dtod(&from.slice(..count), &mut to.slice_mut(..count)))?;
            done += count;
        }
        Ok(tensor)
    }

    /// Copies a tensor to another of the same size.
    ///
    /// # Errors
    /// [`KernelError::Cuda`].
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn copy(&self, from: &DeviceTensor, to: &mut DeviceTensor) -> Result<(), KernelError> {
        assert_eq!(from.bytes, to.bytes, "a copy needs two tensors of one size");
        check("cuMemcpyDtoD", self.stream.memcpy_dtod(&from.memory, &mut to.memory))
    }

    /// The bytes of a tensor, when everything before has run.
    ///
    /// # Errors
    /// [`KernelError::Cuda`], also of earlier work.
    pub fn read(&self, tensor: &DeviceTensor) -> Result<Vec<u8>, KernelError> {
        let mut bytes = check("cuMemcpyDtoH", self.stream.clone_dtoh(&tensor.memory))?;
        self.finish()?;
        bytes.truncate(tensor.bytes);
        Ok(bytes)
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// [`KernelError::Cuda`], also of earlier work.
    pub fn finish(&self) -> Result<(), KernelError> {
        check("cuStreamSynchronize", self.stream.synchronize())
    }

    /// A mark after all work so far.
    ///
    /// # Errors
    /// [`KernelError::Cuda`].
    pub fn mark(&self) -> Result<Mark, KernelError> {
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Mark(check("cuEventRecord", self.stream.record_event(flags))?))
    }
}

/// A point in the work of a device: a CUDA event.
pub struct Mark(CudaEvent);

impl Mark {
    /// Whether the device has come here.
    ///
    /// # Errors
    /// [`KernelError::Cuda`], also of earlier work.
    pub fn is_reached(&self) -> Result<bool, KernelError> {
        check("cuEventQuery", self.0.try_is_complete())
    }

    /// Seconds from here to a later mark, for which it waits.
    ///
    /// # Errors
    /// [`KernelError::Cuda`], also of the work between.
    pub fn seconds_until(&self, later: &Self) -> Result<f64, KernelError> {
        check("cuEventElapsedTime", self.0.elapsed_ms(&later.0)).map(|ms| f64::from(ms) / 1e3)
    }
}

/// A contiguous tensor in the memory of a device.
pub struct DeviceTensor {
    memory: CudaSlice<u8>,
    bytes: usize,
    dtype: DType,
    shape: Vec<usize>,
    ordinal: usize,
}

impl DeviceTensor {
    /// Bytes of all elements.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// A view to read all of it.
    ///
    /// # Errors
    /// [`KernelError::View`] for more than four dimensions.
    pub fn view(&self) -> Result<TensorView<'_>, KernelError> {
        self.columns(0, self.shape.last().copied().unwrap_or(1))
    }

    /// A view to read so many columns, that is, positions of the last dimension.
    ///
    /// # Errors
    /// [`KernelError::View`] for more than four dimensions.
    ///
    /// # Panics
    /// If there are fewer columns.
    pub fn columns(&self, first: usize, count: usize) -> Result<TensorView<'_>, KernelError> {
        let (shape, strides) = self.layout(first, count);
        let (pointer, _guard) = self.memory.device_ptr(self.memory.stream());
        let pointer = (pointer as *const u8).wrapping_add(first * self.dtype.size_bytes());
        // SAFETY: the memory holds every element of the tensor, of which the columns are a part, and the borrow keeps it;
        // freeing it later is ordered after the work on its stream, the only one that kernels get from `Gpu::queue`.
        unsafe { TensorView::from_raw_parts(pointer.cast(), self.dtype, Device::Cuda(self.ordinal), &shape, &strides) }
    }

    /// A view to write all of it.
    ///
    /// # Errors
    /// [`KernelError::View`] for more than four dimensions.
    pub fn view_mut(&mut self) -> Result<TensorViewMut<'_>, KernelError> {
        let (shape, strides) = self.layout(0, self.shape.last().copied().unwrap_or(1));
        let stream = Arc::clone(self.memory.stream());
        let (pointer, _guard) = self.memory.device_ptr_mut(&stream);
        // SAFETY: as in `columns`, and the borrow is exclusive.
        unsafe {
            let pointer = pointer as *mut std::ffi::c_void;
            TensorViewMut::from_raw_parts(pointer, self.dtype, Device::Cuda(self.ordinal), &shape, &strides)
        }
    }

    /// Shape and strides of a range of columns.
    fn layout(&self, first: usize, count: usize) -> (Vec<usize>, Vec<usize>) {
        let width = self.shape.last().copied().unwrap_or(1);
        assert!(first + count <= width, "columns {first} to {} of {width}", first + count);
        let mut strides = vec![1; self.shape.len()];
        for dimension in (1..self.shape.len()).rev() {
            strides[dimension - 1] = strides[dimension] * self.shape[dimension].max(1);
        }
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = count;
        }
        (shape, strides)
    }
}
