//! A device's primary context and the kernels that are loaded into it.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::driver::{result, sys};

use super::{check, images};
use crate::error::KernelError;

/// Shared memory that a block may have without asking for more.
const PLAIN_SHARED_BYTES: u32 = 48 * 1024;

/// Kernels by name, with the modules that hold them.
#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, sys::CUmodule>,
    functions: HashMap<String, sys::CUfunction>,
}

/// A device whose primary context is retained for the life of the program: libtorch uses the same one.
pub(super) struct Device {
    context: sys::CUcontext,
    loaded: Mutex<Loaded>,
}

// SAFETY: contexts, modules and functions are handles that the driver lets every thread use.
unsafe impl Send for Device {}
// SAFETY: as above; the tables are behind a lock.
unsafe impl Sync for Device {}

/// The devices in use.
///
/// A global, because what it holds is one: the driver keeps one primary context a device for the whole process, and
/// code loaded into it. It holds no configuration and no data, and whoever looks up a kernel gets the same one.
static DEVICES: OnceLock<Mutex<HashMap<usize, &'static Device>>> = OnceLock::new();

impl Device {
    /// The device of this index.
    pub(super) fn get(op: &'static str, ordinal: usize) -> Result<&'static Self, KernelError> {
        let mut devices = DEVICES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = devices.get(&ordinal) {
            return Ok(device);
        }
        let device: &'static Self = Box::leak(Box::new(Self::open(op, ordinal)?));
        devices.insert(ordinal, device);
        Ok(device)
    }

    fn open(op: &'static str, ordinal: usize) -> Result<Self, KernelError> {
        // SAFETY: opening the driver's library runs its initialisers, which libtorch runs too.
        if !unsafe { sys::is_culib_present() } {
            let message = "the CUDA driver's library is not installed".to_owned();
            return Err(KernelError::Cuda { op, call: "dlopen", message });
        }
        check(op, "cuInit", result::init())?;
        let device = check(op, "cuDeviceGet", result::device::get(i32::try_from(ordinal).unwrap_or(i32::MAX)))?;
        // SAFETY: the device is one that the driver has just returned. It is never released.
        let context = check(op, "cuDevicePrimaryCtxRetain", unsafe { result::primary_ctx::retain(device) })?;
        Ok(Self { context, loaded: Mutex::default() })
    }

    pub(super) fn context(&self) -> sys::CUcontext {
        self.context
    }

    /// The kernel of this name from this source, loaded on its first use. The device's context must be current.
    pub(super) fn function(
        &self,
        op: &'static str,
        source: &str,
        name: &str,
        shared_bytes: u32,
    ) -> Result<sys::CUfunction, KernelError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&function) = loaded.functions.get(name) {
            return Ok(function);
        }
        let module = loaded.module(op, source)?;
        let symbol = CString::new(name).map_err(|error| KernelError::Cuda {
            op,
            call: "cuModuleGetFunction",
            message: error.to_string(),
        })?;
        // SAFETY: the module was loaded into the current context and is never unloaded.
        let function = check(op, "cuModuleGetFunction", unsafe { result::module::get_function(module, symbol) })?;
        if shared_bytes > PLAIN_SHARED_BYTES {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = i32::try_from(shared_bytes).unwrap_or(i32::MAX);
            // SAFETY: the function is the one just returned.
            let set = unsafe { result::function::set_function_attribute(function, attribute, bytes) };
            check(op, "cuFuncSetAttribute", set)?;
        }
        loaded.functions.insert(name.to_owned(), function);
        Ok(function)
    }
}

impl Loaded {
    fn module(&mut self, op: &'static str, source: &str) -> Result<sys::CUmodule, KernelError> {
        if let Some(&module) = self.modules.get(source) {
            return Ok(module);
        }
        let Some(image) = images::find(source) else {
            return Err(KernelError::MissingKernels { op, needed: source.to_owned(), missing: images::missing() });
        };
        // SAFETY: the image is a whole fat binary, aligned, and lives as long as the program.
        let module =
            check(op, "cuModuleLoadData", unsafe { result::module::load_data(image.bytes.0.as_ptr().cast()) })?;
        self.modules.insert(image.source, module);
        Ok(module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_was_not_compiled_is_named_with_what_to_do() {
        let Err(error) = Loaded::default().module("no_op::forward", "no_op/fwd_f32") else { panic!("found") };
        let message = error.to_string();
        assert!(message.starts_with("no_op::forward: this program was built without nvcc"), "{message}");
        assert!(message.contains("lacks the CUDA kernels no_op/fwd_f32 (all that it lacks: "), "{message}");
        assert!(message.contains("run `cargo xtask setup --nvcc`"), "{message}");
    }
}
