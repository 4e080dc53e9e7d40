//! Generated from `kernels/selective_scan/params.h` by `cargo xtask codegen`; do not edit.

#![allow(dead_code, unreachable_pub, unused_qualifications, reason = "generated code")]

/// Inputs of the scan, which forward and backward share.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectiveScanInputs {
    /// Scan input, `[B, L, E]`.
    pub u: *const ::core::ffi::c_void,
    /// Step size before bias and softplus, `[B, L, E]`.
    pub delta: *const ::core::ffi::c_void,
    /// The negative matrix A itself, `[E, N]`.
    pub a: *const f32,
    /// `[B, L, N]`.
    pub b: *const ::core::ffi::c_void,
    /// `[B, L, N]`.
    pub c: *const ::core::ffi::c_void,
    /// Skip, `[E]`, or null.
    pub d: *const f32,
    /// Gate before SiLU, `[B, L, E]`, or null.
    pub z: *const ::core::ffi::c_void,
    /// Added to delta before softplus, `[E]`, or null.
    pub delta_bias: *const f32,
    /// State before the first step, `[B, E, N]`, or null for zeros.
    pub initial_state: *const f32,
    /// Token of each step, `[L]`, or null for the order in memory.
    pub token_map: *const u32,
    pub u_batch_stride: i64,
    pub u_token_stride: i64,
    pub delta_batch_stride: i64,
    pub delta_token_stride: i64,
    pub a_channel_stride: i64,
    pub b_batch_stride: i64,
    pub b_token_stride: i64,
    pub c_batch_stride: i64,
    pub c_token_stride: i64,
    pub z_batch_stride: i64,
    pub z_token_stride: i64,
    pub initial_state_batch_stride: i64,
    pub initial_state_channel_stride: i64,
    /// B.
    pub batch: u32,
    /// L.
    pub token: u32,
    /// E.
    pub channel: u32,
    /// N.
    pub state: u32,
    /// 1 if delta goes through softplus after its bias, else 0.
    pub delta_softplus: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectiveScanInputs"][::core::mem::size_of::<SelectiveScanInputs>() - 208usize];
    ["Alignment of SelectiveScanInputs"][::core::mem::align_of::<SelectiveScanInputs>() - 8usize];
    ["Offset of field: SelectiveScanInputs::u"][::core::mem::offset_of!(SelectiveScanInputs, u) - 0usize];
    ["Offset of field: SelectiveScanInputs::delta"][::core::mem::offset_of!(SelectiveScanInputs, delta) - 8usize];
    ["Offset of field: SelectiveScanInputs::a"][::core::mem::offset_of!(SelectiveScanInputs, a) - 16usize];
    ["Offset of field: SelectiveScanInputs::b"][::core::mem::offset_of!(SelectiveScanInputs, b) - 24usize];
    ["Offset of field: SelectiveScanInputs::c"][::core::mem::offset_of!(SelectiveScanInputs, c) - 32usize];
    ["Offset of field: SelectiveScanInputs::d"][::core::mem::offset_of!(SelectiveScanInputs, d) - 40usize];
    ["Offset of field: SelectiveScanInputs::z"][::core::mem::offset_of!(SelectiveScanInputs, z) - 48usize];
    ["Offset of field: SelectiveScanInputs::delta_bias"]
        [::core::mem::offset_of!(SelectiveScanInputs, delta_bias) - 56usize];
    ["Offset of field: SelectiveScanInputs::initial_state"]
        [::core::mem::offset_of!(SelectiveScanInputs, initial_state) - 64usize];
    ["Offset of field: SelectiveScanInputs::token_map"]
        [::core::mem::offset_of!(SelectiveScanInputs, token_map) - 72usize];
    ["Offset of field: SelectiveScanInputs::u_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, u_batch_stride) - 80usize];
    ["Offset of field: SelectiveScanInputs::u_token_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, u_token_stride) - 88usize];
    ["Offset of field: SelectiveScanInputs::delta_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, delta_batch_stride) - 96usize];
    ["Offset of field: SelectiveScanInputs::delta_token_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, delta_token_stride) - 104usize];
    ["Offset of field: SelectiveScanInputs::a_channel_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, a_channel_stride) - 112usize];
    ["Offset of field: SelectiveScanInputs::b_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, b_batch_stride) - 120usize];
    ["Offset of field: SelectiveScanInputs::b_token_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, b_token_stride) - 128usize];
    ["Offset of field: SelectiveScanInputs::c_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, c_batch_stride) - 136usize];
    ["Offset of field: SelectiveScanInputs::c_token_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, c_token_stride) - 144usize];
    ["Offset of field: SelectiveScanInputs::z_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, z_batch_stride) - 152usize];
    ["Offset of field: SelectiveScanInputs::z_token_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, z_token_stride) - 160usize];
    ["Offset of field: SelectiveScanInputs::initial_state_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, initial_state_batch_stride) - 168usize];
    ["Offset of field: SelectiveScanInputs::initial_state_channel_stride"]
        [::core::mem::offset_of!(SelectiveScanInputs, initial_state_channel_stride) - 176usize];
    ["Offset of field: SelectiveScanInputs::batch"][::core::mem::offset_of!(SelectiveScanInputs, batch) - 184usize];
    ["Offset of field: SelectiveScanInputs::token"][::core::mem::offset_of!(SelectiveScanInputs, token) - 188usize];
    ["Offset of field: SelectiveScanInputs::channel"][::core::mem::offset_of!(SelectiveScanInputs, channel) - 192usize];
    ["Offset of field: SelectiveScanInputs::state"][::core::mem::offset_of!(SelectiveScanInputs, state) - 196usize];
    ["Offset of field: SelectiveScanInputs::delta_softplus"]
        [::core::mem::offset_of!(SelectiveScanInputs, delta_softplus) - 200usize];
};
/// Arguments of the forward kernels.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectiveScanForward {
    pub inputs: SelectiveScanInputs,
    /// `[B, L, E]`.
    pub out: *mut ::core::ffi::c_void,
    /// State after the last step, `[B, E, N]`, or null if it is not wanted.
    pub last_state: *mut f32,
    pub out_batch_stride: i64,
    pub out_token_stride: i64,
    pub last_state_batch_stride: i64,
    pub last_state_channel_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectiveScanForward"][::core::mem::size_of::<SelectiveScanForward>() - 256usize];
    ["Alignment of SelectiveScanForward"][::core::mem::align_of::<SelectiveScanForward>() - 8usize];
    ["Offset of field: SelectiveScanForward::inputs"][::core::mem::offset_of!(SelectiveScanForward, inputs) - 0usize];
    ["Offset of field: SelectiveScanForward::out"][::core::mem::offset_of!(SelectiveScanForward, out) - 208usize];
    ["Offset of field: SelectiveScanForward::last_state"]
        [::core::mem::offset_of!(SelectiveScanForward, last_state) - 216usize];
    ["Offset of field: SelectiveScanForward::out_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanForward, out_batch_stride) - 224usize];
    ["Offset of field: SelectiveScanForward::out_token_stride"]
        [::core::mem::offset_of!(SelectiveScanForward, out_token_stride) - 232usize];
    ["Offset of field: SelectiveScanForward::last_state_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanForward, last_state_batch_stride) - 240usize];
    ["Offset of field: SelectiveScanForward::last_state_channel_stride"]
        [::core::mem::offset_of!(SelectiveScanForward, last_state_channel_stride) - 248usize];
};
/// Arguments of the backward kernels; each gradient has the shape of its input. Those that are sums over channels or\n the batch are left to `sum_partials`.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectiveScanBackward {
    pub inputs: SelectiveScanInputs,
    /// Gradient of the output, `[B, L, E]`.
    pub grad_out: *const ::core::ffi::c_void,
    /// Gradient of the last state, `[B, E, N]`, or null for zeros.
    pub grad_last_state: *const f32,
    pub grad_u: *mut ::core::ffi::c_void,
    pub grad_delta: *mut ::core::ffi::c_void,
    /// Null if it is not wanted.
    pub grad_z: *mut ::core::ffi::c_void,
    /// Null if it is not wanted.
    pub grad_initial_state: *mut f32,
    pub grad_out_batch_stride: i64,
    pub grad_out_token_stride: i64,
    pub grad_last_state_batch_stride: i64,
    pub grad_last_state_channel_stride: i64,
    pub grad_u_batch_stride: i64,
    pub grad_u_token_stride: i64,
    pub grad_delta_batch_stride: i64,
    pub grad_delta_token_stride: i64,
    pub grad_z_batch_stride: i64,
    pub grad_z_token_stride: i64,
    pub grad_initial_state_batch_stride: i64,
    pub grad_initial_state_channel_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectiveScanBackward"][::core::mem::size_of::<SelectiveScanBackward>() - 352usize];
    ["Alignment of SelectiveScanBackward"][::core::mem::align_of::<SelectiveScanBackward>() - 8usize];
    ["Offset of field: SelectiveScanBackward::inputs"][::core::mem::offset_of!(SelectiveScanBackward, inputs) - 0usize];
    ["Offset of field: SelectiveScanBackward::grad_out"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_out) - 208usize];
    ["Offset of field: SelectiveScanBackward::grad_last_state"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_last_state) - 216usize];
    ["Offset of field: SelectiveScanBackward::grad_u"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_u) - 224usize];
    ["Offset of field: SelectiveScanBackward::grad_delta"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_delta) - 232usize];
    ["Offset of field: SelectiveScanBackward::grad_z"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_z) - 240usize];
    ["Offset of field: SelectiveScanBackward::grad_initial_state"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_initial_state) - 248usize];
    ["Offset of field: SelectiveScanBackward::grad_out_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_out_batch_stride) - 256usize];
    ["Offset of field: SelectiveScanBackward::grad_out_token_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_out_token_stride) - 264usize];
    ["Offset of field: SelectiveScanBackward::grad_last_state_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_last_state_batch_stride) - 272usize];
    ["Offset of field: SelectiveScanBackward::grad_last_state_channel_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_last_state_channel_stride) - 280usize];
    ["Offset of field: SelectiveScanBackward::grad_u_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_u_batch_stride) - 288usize];
    ["Offset of field: SelectiveScanBackward::grad_u_token_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_u_token_stride) - 296usize];
    ["Offset of field: SelectiveScanBackward::grad_delta_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_delta_batch_stride) - 304usize];
    ["Offset of field: SelectiveScanBackward::grad_delta_token_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_delta_token_stride) - 312usize];
    ["Offset of field: SelectiveScanBackward::grad_z_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_z_batch_stride) - 320usize];
    ["Offset of field: SelectiveScanBackward::grad_z_token_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_z_token_stride) - 328usize];
    ["Offset of field: SelectiveScanBackward::grad_initial_state_batch_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_initial_state_batch_stride) - 336usize];
    ["Offset of field: SelectiveScanBackward::grad_initial_state_channel_stride"]
        [::core::mem::offset_of!(SelectiveScanBackward, grad_initial_state_channel_stride) - 344usize];
};
/// Device memory that a call needs for itself, contiguous f32. A forward pass over a split sequence uses the segments'\n fields only, a backward pass all.\n\n K: chunks of 8 tokens in a sequence; P: segments of a sequence, walked by different blocks; G: groups of channels,\n one to a block.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectiveScanWorkspace {
    /// The states before every chunk, `[B, K, N / 4, E, 4]`, of a segment that starts from zeros; null in a forward\n pass.
    pub chunk_states: *mut f32,
    /// The step sizes before every chunk, summed from the segment's start, `[B, K, E]`; used if P > 1.
    pub chunk_deltas: *mut f32,
    /// The step sizes of every segment, summed, `[B, P, E]`; used if P > 1.
    pub segment_deltas: *mut f32,
    /// The states behind every segment, `[B, P, E, N]`, which `join` makes those before it; used if P > 1.
    pub segment_states: *mut f32,
    /// The gradients before every segment, `[B, P, E, N]`, which `join` makes those behind it; null in a forward pass.
    pub segment_gradients: *mut f32,
    /// `[G, B, L, N]`.
    pub partial_b: *mut f32,
    /// `[G, B, L, N]`.
    pub partial_c: *mut f32,
    /// `[B, P, E, N]`.
    pub partial_a: *mut f32,
    /// `[B, P, E]`.
    pub partial_d: *mut f32,
    /// `[B, P, E]`.
    pub partial_delta_bias: *mut f32,
    /// P.
    pub segments: u32,
    /// Of every segment but the last, which may have fewer; a multiple of 8.
    pub segment_tokens: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectiveScanWorkspace"][::core::mem::size_of::<SelectiveScanWorkspace>() - 88usize];
    ["Alignment of SelectiveScanWorkspace"][::core::mem::align_of::<SelectiveScanWorkspace>() - 8usize];
    ["Offset of field: SelectiveScanWorkspace::chunk_states"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, chunk_states) - 0usize];
    ["Offset of field: SelectiveScanWorkspace::chunk_deltas"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, chunk_deltas) - 8usize];
    ["Offset of field: SelectiveScanWorkspace::segment_deltas"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, segment_deltas) - 16usize];
    ["Offset of field: SelectiveScanWorkspace::segment_states"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, segment_states) - 24usize];
    ["Offset of field: SelectiveScanWorkspace::segment_gradients"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, segment_gradients) - 32usize];
    ["Offset of field: SelectiveScanWorkspace::partial_b"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, partial_b) - 40usize];
    ["Offset of field: SelectiveScanWorkspace::partial_c"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, partial_c) - 48usize];
    ["Offset of field: SelectiveScanWorkspace::partial_a"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, partial_a) - 56usize];
    ["Offset of field: SelectiveScanWorkspace::partial_d"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, partial_d) - 64usize];
    ["Offset of field: SelectiveScanWorkspace::partial_delta_bias"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, partial_delta_bias) - 72usize];
    ["Offset of field: SelectiveScanWorkspace::segments"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, segments) - 80usize];
    ["Offset of field: SelectiveScanWorkspace::segment_tokens"]
        [::core::mem::offset_of!(SelectiveScanWorkspace, segment_tokens) - 84usize];
};
