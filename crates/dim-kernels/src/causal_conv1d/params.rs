//! Generated from `kernels/causal_conv1d/params.h` by `cargo xtask codegen`; do not edit.

#![allow(dead_code, unreachable_pub, unused_qualifications, reason = "generated code")]

/// Inputs of the convolution, which forward and backward share.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CausalConv1dInputs {
    /// `[B, L, E]`.
    pub x: *const ::core::ffi::c_void,
    /// `[E, W]`; the last tap meets the current token.
    pub weight: *const f32,
    /// `[E]`, or null.
    pub bias: *const f32,
    /// Token of each step, `[L]`, or null for the order in memory.
    pub token_map: *const u32,
    pub x_batch_stride: i64,
    pub x_token_stride: i64,
    pub weight_channel_stride: i64,
    /// B.
    pub batch: u32,
    /// L.
    pub token: u32,
    /// E.
    pub channel: u32,
    /// W.
    pub width: u32,
    /// 1 if the result goes through SiLU, else 0.
    pub silu: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CausalConv1dInputs"][::core::mem::size_of::<CausalConv1dInputs>() - 80usize];
    ["Alignment of CausalConv1dInputs"][::core::mem::align_of::<CausalConv1dInputs>() - 8usize];
    ["Offset of field: CausalConv1dInputs::x"][::core::mem::offset_of!(CausalConv1dInputs, x) - 0usize];
    ["Offset of field: CausalConv1dInputs::weight"][::core::mem::offset_of!(CausalConv1dInputs, weight) - 8usize];
    ["Offset of field: CausalConv1dInputs::bias"][::core::mem::offset_of!(CausalConv1dInputs, bias) - 16usize];
    ["Offset of field: CausalConv1dInputs::token_map"]
        [::core::mem::offset_of!(CausalConv1dInputs, token_map) - 24usize];
    ["Offset of field: CausalConv1dInputs::x_batch_stride"]
        [::core::mem::offset_of!(CausalConv1dInputs, x_batch_stride) - 32usize];
    ["Offset of field: CausalConv1dInputs::x_token_stride"]
        [::core::mem::offset_of!(CausalConv1dInputs, x_token_stride) - 40usize];
    ["Offset of field: CausalConv1dInputs::weight_channel_stride"]
        [::core::mem::offset_of!(CausalConv1dInputs, weight_channel_stride) - 48usize];
    ["Offset of field: CausalConv1dInputs::batch"][::core::mem::offset_of!(CausalConv1dInputs, batch) - 56usize];
    ["Offset of field: CausalConv1dInputs::token"][::core::mem::offset_of!(CausalConv1dInputs, token) - 60usize];
    ["Offset of field: CausalConv1dInputs::channel"][::core::mem::offset_of!(CausalConv1dInputs, channel) - 64usize];
    ["Offset of field: CausalConv1dInputs::width"][::core::mem::offset_of!(CausalConv1dInputs, width) - 68usize];
    ["Offset of field: CausalConv1dInputs::silu"][::core::mem::offset_of!(CausalConv1dInputs, silu) - 72usize];
};
/// Arguments of the forward kernels.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CausalConv1dForward {
    pub inputs: CausalConv1dInputs,
    /// `[B, L, E]`.
    pub out: *mut ::core::ffi::c_void,
    pub out_batch_stride: i64,
    pub out_token_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CausalConv1dForward"][::core::mem::size_of::<CausalConv1dForward>() - 104usize];
    ["Alignment of CausalConv1dForward"][::core::mem::align_of::<CausalConv1dForward>() - 8usize];
    ["Offset of field: CausalConv1dForward::inputs"][::core::mem::offset_of!(CausalConv1dForward, inputs) - 0usize];
    ["Offset of field: CausalConv1dForward::out"][::core::mem::offset_of!(CausalConv1dForward, out) - 80usize];
    ["Offset of field: CausalConv1dForward::out_batch_stride"]
        [::core::mem::offset_of!(CausalConv1dForward, out_batch_stride) - 88usize];
    ["Offset of field: CausalConv1dForward::out_token_stride"]
        [::core::mem::offset_of!(CausalConv1dForward, out_token_stride) - 96usize];
};
/// Arguments of the backward kernels; each gradient has the shape of its input.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CausalConv1dBackward {
    pub inputs: CausalConv1dInputs,
    /// Gradient of the output, `[B, L, E]`.
    pub grad_out: *const ::core::ffi::c_void,
    pub grad_x: *mut ::core::ffi::c_void,
    pub grad_weight: *mut f32,
    /// Null if it is not wanted.
    pub grad_bias: *mut f32,
    pub grad_out_batch_stride: i64,
    pub grad_out_token_stride: i64,
    pub grad_x_batch_stride: i64,
    pub grad_x_token_stride: i64,
    pub grad_weight_channel_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CausalConv1dBackward"][::core::mem::size_of::<CausalConv1dBackward>() - 152usize];
    ["Alignment of CausalConv1dBackward"][::core::mem::align_of::<CausalConv1dBackward>() - 8usize];
    ["Offset of field: CausalConv1dBackward::inputs"][::core::mem::offset_of!(CausalConv1dBackward, inputs) - 0usize];
    ["Offset of field: CausalConv1dBackward::grad_out"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_out) - 80usize];
    ["Offset of field: CausalConv1dBackward::grad_x"][::core::mem::offset_of!(CausalConv1dBackward, grad_x) - 88usize];
    ["Offset of field: CausalConv1dBackward::grad_weight"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_weight) - 96usize];
    ["Offset of field: CausalConv1dBackward::grad_bias"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_bias) - 104usize];
    ["Offset of field: CausalConv1dBackward::grad_out_batch_stride"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_out_batch_stride) - 112usize];
    ["Offset of field: CausalConv1dBackward::grad_out_token_stride"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_out_token_stride) - 120usize];
    ["Offset of field: CausalConv1dBackward::grad_x_batch_stride"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_x_batch_stride) - 128usize];
    ["Offset of field: CausalConv1dBackward::grad_x_token_stride"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_x_token_stride) - 136usize];
    ["Offset of field: CausalConv1dBackward::grad_weight_channel_stride"]
        [::core::mem::offset_of!(CausalConv1dBackward, grad_weight_channel_stride) - 144usize];
};
