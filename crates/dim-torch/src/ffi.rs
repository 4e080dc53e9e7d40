//! The C interface of `cpp/`: raw declarations, and the one way to read its error messages.

use std::ffi::{CStr, c_char, c_void};

use torch_sys::C_tensor;

use crate::TorchError;

/// A list of tensors that the C++ side owns.
#[repr(C)]
pub(crate) struct DimTensorList {
    _opaque: [u8; 0],
}

/// The callbacks of an operation; see `cpp/custom_function.cpp`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DimCallbacks {
    pub(crate) forward: unsafe extern "C" fn(
        operation: *mut c_void,
        inputs: *const *mut C_tensor,
        input_count: usize,
        outputs: *mut DimTensorList,
        saved: *mut DimTensorList,
    ) -> *mut c_char,
    pub(crate) backward: unsafe extern "C" fn(
        operation: *mut c_void,
        saved: *const *mut C_tensor,
        saved_count: usize,
        grad_outputs: *const *mut C_tensor,
        output_count: usize,
        needs_gradient: *const bool,
        input_count: usize,
        grad_inputs: *mut DimTensorList,
    ) -> *mut c_char,
    pub(crate) drop: unsafe extern "C" fn(operation: *mut c_void),
}

// SAFETY: the declarations repeat those of `cpp/` type by type (a C_tensor pointer is an at::Tensor pointer, as in torch-sys),
// and malloc and free are the C library's.
unsafe extern "C" {
    pub(crate) fn dim_tensor_list_push(list: *mut DimTensorList, tensor: *const C_tensor);
    pub(crate) fn dim_apply(
        inputs: *const *const C_tensor,
        input_count: usize,
        operation: *mut c_void,
        callbacks: DimCallbacks,
        outputs: *mut *mut C_tensor,
        output_capacity: usize,
        output_count: *mut usize,
    ) -> *mut c_char;
    pub(crate) fn dim_backward(
        outputs: *const *const C_tensor,
        gradients: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn dim_set_gradient(parameter: *const C_tensor, gradient: *const C_tensor) -> *mut c_char;
    pub(crate) fn dim_conv2d_by_products(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        stride: i64,
        padding: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn dim_bump_version(tensor: *const C_tensor) -> *mut c_char;
    pub(crate) fn dim_set_storage_bytes(tensor: *const C_tensor, bytes: usize) -> *mut c_char;
    pub(crate) fn dim_storage_bytes(tensor: *const C_tensor, bytes: *mut i64) -> *mut c_char;
    pub(crate) fn dim_terms_in_one_go(terms: *mut i64) -> *mut c_char;
    pub(crate) fn dim_prefer_deterministic() -> *mut c_char;
    pub(crate) fn dim_prefer_fast() -> *mut c_char;
    pub(crate) fn dim_choose_attention(flash: bool, cudnn: bool, memory_efficient: bool) -> *mut c_char;
    pub(crate) fn dim_peak_memory(ordinal: i32, bytes: *mut i64) -> *mut c_char;
    pub(crate) fn dim_reset_peak_memory(ordinal: i32) -> *mut c_char;
    pub(crate) fn dim_allow_tf32_convolutions(allowed: bool) -> *mut c_char;
    pub(crate) fn dim_graph_new(ordinal: i32, graph: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn dim_graph_begin(graph: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_graph_end(graph: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_graph_leave(graph: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_graph_replay(graph: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_graph_free(graph: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_profile_start() -> *mut c_char;
    pub(crate) fn dim_profile_stop(
        state: *mut c_void,
        visit: unsafe extern "C" fn(
            state: *mut c_void,
            name: *const c_char,
            on_gpu: bool,
            start_ns: u64,
            duration_ns: u64,
        ),
    ) -> *mut c_char;
    pub(crate) fn dim_current_cuda_stream(ordinal: i32, stream: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn dim_store_new(
        host: *const c_char,
        port: u16,
        is_server: bool,
        timeout_ms: i64,
        store: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn dim_store_prefixed(
        store: *const c_void,
        prefix: *const c_char,
        part: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn dim_store_set(store: *mut c_void, key: *const c_char, value: *const u8, length: usize)
    -> *mut c_char;
    pub(crate) fn dim_store_get(
        store: *mut c_void,
        key: *const c_char,
        timeout_ms: i64,
        state: *mut c_void,
        visit: unsafe extern "C" fn(state: *mut c_void, value: *const u8, length: usize),
    ) -> *mut c_char;
    pub(crate) fn dim_store_add(store: *mut c_void, key: *const c_char, amount: i64, sum: *mut i64) -> *mut c_char;
    pub(crate) fn dim_store_check(store: *mut c_void, key: *const c_char, is_set: *mut bool) -> *mut c_char;
    pub(crate) fn dim_store_free(store: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_group_new(
        store: *const c_void,
        on_gpu: bool,
        rank: i32,
        size: i32,
        timeout_ms: i64,
        group: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn dim_group_free(group: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_group_start(
        group: *mut c_void,
        operation: u8,
        tensor: *const C_tensor,
        input: *const C_tensor,
        peer: i32,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn dim_group_broadcasts(
        group: *mut c_void,
        tensors: *const *const C_tensor,
        roots: *const i32,
        count: usize,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn dim_group_all_to_all(
        group: *mut c_void,
        output: *const C_tensor,
        input: *const C_tensor,
        received: *const i64,
        sent: *const i64,
        size: usize,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn dim_work_wait(work: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_work_free(work: *mut c_void) -> *mut c_char;
    pub(crate) fn dim_after_accumulation(
        leaf: *const C_tensor,
        state: *mut c_void,
        call: unsafe extern "C" fn(state: *mut c_void, leaf: *const C_tensor) -> *mut c_char,
        drop: unsafe extern "C" fn(state: *mut c_void),
    ) -> *mut c_char;
    pub(crate) fn dim_gradient_was_added(leaf: *const C_tensor) -> *mut c_char;
    pub(crate) fn dim_take_gradient(leaf: *const C_tensor, gradient: *mut *mut C_tensor) -> *mut c_char;
    pub(crate) fn dim_set_cuda_device(ordinal: i32) -> *mut c_char;
    fn malloc(size: usize) -> *mut c_void;
    fn free(pointer: *mut c_void);
}

/// Turns a message of the C++ side into an error, and frees it.
pub(crate) fn check(message: *mut c_char) -> Result<(), TorchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string that `dim::message` or `message` below allocated with
    // malloc; it is read and freed here once, and nobody else holds it.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        free(message.cast());
        text
    };
    Err(TorchError::Libtorch(text))
}

/// A copy of `text` on the C heap, for the C++ side to read and free.
pub(crate) fn message(text: &str) -> *mut c_char {
    // An inner NUL would end the C string early; such a byte is not worth losing the message for.
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    // SAFETY: the block is one byte longer than the text, so the copy and its terminator stay inside it; a failed
    // allocation gives null, which is checked before it is written.
    unsafe {
        let block = malloc(bytes.len() + 1).cast::<u8>();
        if block.is_null() {
            std::process::abort(); // no memory for an error message: null would mean success
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), block, bytes.len());
        *block.add(bytes.len()) = 0;
        block.cast()
    }
}
