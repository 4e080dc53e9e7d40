//! Generated from `kernels/norm_modulate/params.h` by `cargo xtask codegen`; do not edit.

#![allow(dead_code, unreachable_pub, unused_qualifications, reason = "generated code")]

/// What forward and backward share.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct NormModulateInputs {
    /// What is added to the stream, `[B, L, D]`, or null.
    pub y: *const ::core::ffi::c_void,
    /// `[B, D]`, or null for a gate of 1.
    pub gate: *const f32,
    /// `[B, D]`, or null.
    pub scale: *const f32,
    /// `[B, D]`, or null.
    pub shift: *const f32,
    /// `[D]`, or null.
    pub weight: *const f32,
    /// `[D]`, or null.
    pub bias: *const f32,
    pub y_batch_stride: i64,
    pub y_token_stride: i64,
    pub gate_batch_stride: i64,
    pub scale_batch_stride: i64,
    pub shift_batch_stride: i64,
    /// Added to `gate`.
    pub gate_offset: f32,
    /// Added to the mean square or the variance.
    pub eps: f32,
    /// 0: no norm, 1: RMS norm, 2: layer norm.
    pub norm: u32,
    /// B.
    pub batch: u32,
    /// L.
    pub token: u32,
    /// D.
    pub channel: u32,
    /// Tokens of one sequence that a block takes.
    pub block_tokens: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of NormModulateInputs"][::core::mem::size_of::<NormModulateInputs>() - 120usize];
    ["Alignment of NormModulateInputs"][::core::mem::align_of::<NormModulateInputs>() - 8usize];
    ["Offset of field: NormModulateInputs::y"][::core::mem::offset_of!(NormModulateInputs, y) - 0usize];
    ["Offset of field: NormModulateInputs::gate"][::core::mem::offset_of!(NormModulateInputs, gate) - 8usize];
    ["Offset of field: NormModulateInputs::scale"][::core::mem::offset_of!(NormModulateInputs, scale) - 16usize];
    ["Offset of field: NormModulateInputs::shift"][::core::mem::offset_of!(NormModulateInputs, shift) - 24usize];
    ["Offset of field: NormModulateInputs::weight"][::core::mem::offset_of!(NormModulateInputs, weight) - 32usize];
    ["Offset of field: NormModulateInputs::bias"][::core::mem::offset_of!(NormModulateInputs, bias) - 40usize];
    ["Offset of field: NormModulateInputs::y_batch_stride"]
        [::core::mem::offset_of!(NormModulateInputs, y_batch_stride) - 48usize];
    ["Offset of field: NormModulateInputs::y_token_stride"]
        [::core::mem::offset_of!(NormModulateInputs, y_token_stride) - 56usize];
    ["Offset of field: NormModulateInputs::gate_batch_stride"]
        [::core::mem::offset_of!(NormModulateInputs, gate_batch_stride) - 64usize];
    ["Offset of field: NormModulateInputs::scale_batch_stride"]
        [::core::mem::offset_of!(NormModulateInputs, scale_batch_stride) - 72usize];
    ["Offset of field: NormModulateInputs::shift_batch_stride"]
        [::core::mem::offset_of!(NormModulateInputs, shift_batch_stride) - 80usize];
    ["Offset of field: NormModulateInputs::gate_offset"]
        [::core::mem::offset_of!(NormModulateInputs, gate_offset) - 88usize];
    ["Offset of field: NormModulateInputs::eps"][::core::mem::offset_of!(NormModulateInputs, eps) - 92usize];
    ["Offset of field: NormModulateInputs::norm"][::core::mem::offset_of!(NormModulateInputs, norm) - 96usize];
    ["Offset of field: NormModulateInputs::batch"][::core::mem::offset_of!(NormModulateInputs, batch) - 100usize];
    ["Offset of field: NormModulateInputs::token"][::core::mem::offset_of!(NormModulateInputs, token) - 104usize];
    ["Offset of field: NormModulateInputs::channel"][::core::mem::offset_of!(NormModulateInputs, channel) - 108usize];
    ["Offset of field: NormModulateInputs::block_tokens"]
        [::core::mem::offset_of!(NormModulateInputs, block_tokens) - 112usize];
};
/// Arguments of the forward kernels.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct NormModulateForward {
    pub inputs: NormModulateInputs,
    /// The stream, `[B, L, D]`, f32 or of the activations' dtype.
    pub x: *const ::core::ffi::c_void,
    /// The stream with `y` added, `[B, L, D]`, or null.
    pub r: *mut f32,
    /// `[B, L, D]`, or null.
    pub out: *mut ::core::ffi::c_void,
    /// Of each token of the stream with `y` added, the mean that the norm takes off and the inverse of what it divides\n by, `[B, L, 2]`, or null.
    pub statistics: *mut f32,
    pub x_batch_stride: i64,
    pub x_token_stride: i64,
    pub r_batch_stride: i64,
    pub r_token_stride: i64,
    pub out_batch_stride: i64,
    pub out_token_stride: i64,
    pub statistics_batch_stride: i64,
    pub statistics_token_stride: i64,
    /// 1 if `x` is f32.
    pub x_is_f32: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of NormModulateForward"][::core::mem::size_of::<NormModulateForward>() - 224usize];
    ["Alignment of NormModulateForward"][::core::mem::align_of::<NormModulateForward>() - 8usize];
    ["Offset of field: NormModulateForward::inputs"][::core::mem::offset_of!(NormModulateForward, inputs) - 0usize];
    ["Offset of field: NormModulateForward::x"][::core::mem::offset_of!(NormModulateForward, x) - 120usize];
    ["Offset of field: NormModulateForward::r"][::core::mem::offset_of!(NormModulateForward, r) - 128usize];
    ["Offset of field: NormModulateForward::out"][::core::mem::offset_of!(NormModulateForward, out) - 136usize];
    ["Offset of field: NormModulateForward::statistics"]
        [::core::mem::offset_of!(NormModulateForward, statistics) - 144usize];
    ["Offset of field: NormModulateForward::x_batch_stride"]
        [::core::mem::offset_of!(NormModulateForward, x_batch_stride) - 152usize];
    ["Offset of field: NormModulateForward::x_token_stride"]
        [::core::mem::offset_of!(NormModulateForward, x_token_stride) - 160usize];
    ["Offset of field: NormModulateForward::r_batch_stride"]
        [::core::mem::offset_of!(NormModulateForward, r_batch_stride) - 168usize];
    ["Offset of field: NormModulateForward::r_token_stride"]
        [::core::mem::offset_of!(NormModulateForward, r_token_stride) - 176usize];
    ["Offset of field: NormModulateForward::out_batch_stride"]
        [::core::mem::offset_of!(NormModulateForward, out_batch_stride) - 184usize];
    ["Offset of field: NormModulateForward::out_token_stride"]
        [::core::mem::offset_of!(NormModulateForward, out_token_stride) - 192usize];
    ["Offset of field: NormModulateForward::statistics_batch_stride"]
        [::core::mem::offset_of!(NormModulateForward, statistics_batch_stride) - 200usize];
    ["Offset of field: NormModulateForward::statistics_token_stride"]
        [::core::mem::offset_of!(NormModulateForward, statistics_token_stride) - 208usize];
    ["Offset of field: NormModulateForward::x_is_f32"]
        [::core::mem::offset_of!(NormModulateForward, x_is_f32) - 216usize];
};
/// Arguments of the backward kernels; each gradient has the shape of its input.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct NormModulateBackward {
    pub inputs: NormModulateInputs,
    /// The stream with `y` added, `[B, L, D]`, or null where no norm and no gradient of weight or scale needs it. It,\n its gradient and that of `x` are f32 or of the activations' dtype.
    pub r: *const ::core::ffi::c_void,
    /// As forward wrote them; null where there is no norm or no `grad_out`.
    pub statistics: *const f32,
    /// Gradient of the output, `[B, L, D]`, or null for zeros.
    pub grad_out: *const ::core::ffi::c_void,
    /// Gradient of the stream from those who read it later, `[B, L, D]`, or null for zeros.
    pub grad_r: *const ::core::ffi::c_void,
    /// Null if it is not wanted.
    pub grad_x: *mut ::core::ffi::c_void,
    /// Null if there is no `y`.
    pub grad_y: *mut ::core::ffi::c_void,
    /// Sums over the tokens of each block, `[B, blocks of a sequence, 3, D]`: of the gradient of the output, of that\n times the normed stream, and of the gradient of the stream times `y`; null if none is wanted.
    pub partials: *mut f32,
    pub r_batch_stride: i64,
    pub r_token_stride: i64,
    pub statistics_batch_stride: i64,
    pub statistics_token_stride: i64,
    pub grad_out_batch_stride: i64,
    pub grad_out_token_stride: i64,
    pub grad_r_batch_stride: i64,
    pub grad_r_token_stride: i64,
    pub grad_x_batch_stride: i64,
    pub grad_x_token_stride: i64,
    pub grad_y_batch_stride: i64,
    pub grad_y_token_stride: i64,
    /// 1 if `r` is f32.
    pub r_is_f32: u32,
    /// 1 if `grad_r` is f32.
    pub grad_r_is_f32: u32,
    /// 1 if `grad_x` is f32.
    pub grad_x_is_f32: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of NormModulateBackward"][::core::mem::size_of::<NormModulateBackward>() - 288usize];
    ["Alignment of NormModulateBackward"][::core::mem::align_of::<NormModulateBackward>() - 8usize];
    ["Offset of field: NormModulateBackward::inputs"][::core::mem::offset_of!(NormModulateBackward, inputs) - 0usize];
    ["Offset of field: NormModulateBackward::r"][::core::mem::offset_of!(NormModulateBackward, r) - 120usize];
    ["Offset of field: NormModulateBackward::statistics"]
        [::core::mem::offset_of!(NormModulateBackward, statistics) - 128usize];
    ["Offset of field: NormModulateBackward::grad_out"]
        [::core::mem::offset_of!(NormModulateBackward, grad_out) - 136usize];
    ["Offset of field: NormModulateBackward::grad_r"][::core::mem::offset_of!(NormModulateBackward, grad_r) - 144usize];
    ["Offset of field: NormModulateBackward::grad_x"][::core::mem::offset_of!(NormModulateBackward, grad_x) - 152usize];
    ["Offset of field: NormModulateBackward::grad_y"][::core::mem::offset_of!(NormModulateBackward, grad_y) - 160usize];
    ["Offset of field: NormModulateBackward::partials"]
        [::core::mem::offset_of!(NormModulateBackward, partials) - 168usize];
    ["Offset of field: NormModulateBackward::r_batch_stride"]
        [::core::mem::offset_of!(NormModulateBackward, r_batch_stride) - 176usize];
    ["Offset of field: NormModulateBackward::r_token_stride"]
        [::core::mem::offset_of!(NormModulateBackward, r_token_stride) - 184usize];
    ["Offset of field: NormModulateBackward::statistics_batch_stride"]
        [::core::mem::offset_of!(NormModulateBackward, statistics_batch_stride) - 192usize];
    ["Offset of field: NormModulateBackward::statistics_token_stride"]
        [::core::mem::offset_of!(NormModulateBackward, statistics_token_stride) - 200usize];
    ["Offset of field: NormModulateBackward::grad_out_batch_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_out_batch_stride) - 208usize];
    ["Offset of field: NormModulateBackward::grad_out_token_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_out_token_stride) - 216usize];
    ["Offset of field: NormModulateBackward::grad_r_batch_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_r_batch_stride) - 224usize];
    ["Offset of field: NormModulateBackward::grad_r_token_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_r_token_stride) - 232usize];
    ["Offset of field: NormModulateBackward::grad_x_batch_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_x_batch_stride) - 240usize];
    ["Offset of field: NormModulateBackward::grad_x_token_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_x_token_stride) - 248usize];
    ["Offset of field: NormModulateBackward::grad_y_batch_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_y_batch_stride) - 256usize];
    ["Offset of field: NormModulateBackward::grad_y_token_stride"]
        [::core::mem::offset_of!(NormModulateBackward, grad_y_token_stride) - 264usize];
    ["Offset of field: NormModulateBackward::r_is_f32"]
        [::core::mem::offset_of!(NormModulateBackward, r_is_f32) - 272usize];
    ["Offset of field: NormModulateBackward::grad_r_is_f32"]
        [::core::mem::offset_of!(NormModulateBackward, grad_r_is_f32) - 276usize];
    ["Offset of field: NormModulateBackward::grad_x_is_f32"]
        [::core::mem::offset_of!(NormModulateBackward, grad_x_is_f32) - 280usize];
};
/// Arguments of the kernel that sums the partial sums; null pointers: not given, or not wanted.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct NormModulateSums {
    /// As in `NormModulateBackward`.
    pub partials: *const f32,
    /// `[B, D]`.
    pub scale: *const f32,
    /// `[D]`.
    pub weight: *const f32,
    /// `[D]`.
    pub bias: *const f32,
    /// `[B, D]`.
    pub grad_gate: *mut f32,
    /// `[B, D]`.
    pub grad_scale: *mut f32,
    /// `[B, D]`.
    pub grad_shift: *mut f32,
    /// Contributions of each sequence, `[B, D]` and contiguous.
    pub grad_weight: *mut f32,
    /// Contributions of each sequence, `[B, D]` and contiguous.
    pub grad_bias: *mut f32,
    pub scale_batch_stride: i64,
    pub grad_gate_batch_stride: i64,
    pub grad_scale_batch_stride: i64,
    pub grad_shift_batch_stride: i64,
    /// B.
    pub batch: u32,
    /// D.
    pub channel: u32,
    /// Blocks of a sequence.
    pub blocks: u32,
    /// Groups of the threads of a block, a power of two.
    pub groups: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of NormModulateSums"][::core::mem::size_of::<NormModulateSums>() - 120usize];
    ["Alignment of NormModulateSums"][::core::mem::align_of::<NormModulateSums>() - 8usize];
    ["Offset of field: NormModulateSums::partials"][::core::mem::offset_of!(NormModulateSums, partials) - 0usize];
    ["Offset of field: NormModulateSums::scale"][::core::mem::offset_of!(NormModulateSums, scale) - 8usize];
    ["Offset of field: NormModulateSums::weight"][::core::mem::offset_of!(NormModulateSums, weight) - 16usize];
    ["Offset of field: NormModulateSums::bias"][::core::mem::offset_of!(NormModulateSums, bias) - 24usize];
    ["Offset of field: NormModulateSums::grad_gate"][::core::mem::offset_of!(NormModulateSums, grad_gate) - 32usize];
    ["Offset of field: NormModulateSums::grad_scale"][::core::mem::offset_of!(NormModulateSums, grad_scale) - 40usize];
    ["Offset of field: NormModulateSums::grad_shift"][::core::mem::offset_of!(NormModulateSums, grad_shift) - 48usize];
    ["Offset of field: NormModulateSums::grad_weight"]
        [::core::mem::offset_of!(NormModulateSums, grad_weight) - 56usize];
    ["Offset of field: NormModulateSums::grad_bias"][::core::mem::offset_of!(NormModulateSums, grad_bias) - 64usize];
    ["Offset of field: NormModulateSums::scale_batch_stride"]
        [::core::mem::offset_of!(NormModulateSums, scale_batch_stride) - 72usize];
    ["Offset of field: NormModulateSums::grad_gate_batch_stride"]
        [::core::mem::offset_of!(NormModulateSums, grad_gate_batch_stride) - 80usize];
    ["Offset of field: NormModulateSums::grad_scale_batch_stride"]
        [::core::mem::offset_of!(NormModulateSums, grad_scale_batch_stride) - 88usize];
    ["Offset of field: NormModulateSums::grad_shift_batch_stride"]
        [::core::mem::offset_of!(NormModulateSums, grad_shift_batch_stride) - 96usize];
    ["Offset of field: NormModulateSums::batch"][::core::mem::offset_of!(NormModulateSums, batch) - 104usize];
    ["Offset of field: NormModulateSums::channel"][::core::mem::offset_of!(NormModulateSums, channel) - 108usize];
    ["Offset of field: NormModulateSums::blocks"][::core::mem::offset_of!(NormModulateSums, blocks) - 112usize];
    ["Offset of field: NormModulateSums::groups"][::core::mem::offset_of!(NormModulateSums, groups) - 116usize];
};
