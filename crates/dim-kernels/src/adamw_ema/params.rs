//! Generated from `kernels/adamw_ema/params.h` by `cargo xtask codegen`; do not edit.

#![allow(dead_code, unreachable_pub, unused_qualifications, reason = "generated code")]

/// Arguments of the kernels that take the gradient's norm.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct GradientNorm {
    /// `[P]`.
    pub gradients: *const ::core::ffi::c_void,
    /// The sum of squares of each chunk.
    pub partials: *mut f64,
    /// `[1]`.
    pub norm: *mut f32,
    /// P.
    pub length: i64,
    /// The absolute value of the gradients' factor.
    pub scale: f64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of GradientNorm"][::core::mem::size_of::<GradientNorm>() - 40usize];
    ["Alignment of GradientNorm"][::core::mem::align_of::<GradientNorm>() - 8usize];
    ["Offset of field: GradientNorm::gradients"][::core::mem::offset_of!(GradientNorm, gradients) - 0usize];
    ["Offset of field: GradientNorm::partials"][::core::mem::offset_of!(GradientNorm, partials) - 8usize];
    ["Offset of field: GradientNorm::norm"][::core::mem::offset_of!(GradientNorm, norm) - 16usize];
    ["Offset of field: GradientNorm::length"][::core::mem::offset_of!(GradientNorm, length) - 24usize];
    ["Offset of field: GradientNorm::scale"][::core::mem::offset_of!(GradientNorm, scale) - 32usize];
};
/// Arguments of a step. Everything but the gradients and the copy is read and written, f32.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct AdamwEmaStep {
    /// `[P]`.
    pub parameters: *mut f32,
    /// `[P]`.
    pub gradients: *const ::core::ffi::c_void,
    /// `[P]`.
    pub first_moment: *mut f32,
    /// `[P]`.
    pub second_moment: *mut f32,
    /// `[P]`.
    pub ema: *mut f32,
    /// The new parameters in bf16, `[P]`, or null.
    pub copy: *mut ::core::ffi::c_void,
    /// The norm that `max_norm` is for, `[1]`; null if gradients are not clipped.
    pub norm: *const f32,
    /// `step_size`, `decay` and `root_correction` to take instead of those below, `[3]`, or null.
    pub schedule: *const f32,
    /// P.
    pub length: i64,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// Learning rate times weight decay.
    pub decay: f32,
    /// Root of the second moment's bias correction.
    pub root_correction: f32,
    /// One minus the first moment's decay.
    pub first_rate: f32,
    /// The second moment's decay.
    pub second_decay: f32,
    /// One minus the second moment's decay.
    pub second_rate: f32,
    pub eps: f32,
    /// One minus the average's decay.
    pub ema_rate: f32,
    /// Factor of the gradients, applied before they are clipped.
    pub gradient_scale: f32,
    /// Largest norm.
    pub max_norm: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of AdamwEmaStep"][::core::mem::size_of::<AdamwEmaStep>() - 112usize];
    ["Alignment of AdamwEmaStep"][::core::mem::align_of::<AdamwEmaStep>() - 8usize];
    ["Offset of field: AdamwEmaStep::parameters"][::core::mem::offset_of!(AdamwEmaStep, parameters) - 0usize];
    ["Offset of field: AdamwEmaStep::gradients"][::core::mem::offset_of!(AdamwEmaStep, gradients) - 8usize];
    ["Offset of field: AdamwEmaStep::first_moment"][::core::mem::offset_of!(AdamwEmaStep, first_moment) - 16usize];
    ["Offset of field: AdamwEmaStep::second_moment"][::core::mem::offset_of!(AdamwEmaStep, second_moment) - 24usize];
    ["Offset of field: AdamwEmaStep::ema"][::core::mem::offset_of!(AdamwEmaStep, ema) - 32usize];
    ["Offset of field: AdamwEmaStep::copy"][::core::mem::offset_of!(AdamwEmaStep, copy) - 40usize];
    ["Offset of field: AdamwEmaStep::norm"][::core::mem::offset_of!(AdamwEmaStep, norm) - 48usize];
    ["Offset of field: AdamwEmaStep::schedule"][::core::mem::offset_of!(AdamwEmaStep, schedule) - 56usize];
    ["Offset of field: AdamwEmaStep::length"][::core::mem::offset_of!(AdamwEmaStep, length) - 64usize];
    ["Offset of field: AdamwEmaStep::step_size"][::core::mem::offset_of!(AdamwEmaStep, step_size) - 72usize];
    ["Offset of field: AdamwEmaStep::decay"][::core::mem::offset_of!(AdamwEmaStep, decay) - 76usize];
    ["Offset of field: AdamwEmaStep::root_correction"]
        [::core::mem::offset_of!(AdamwEmaStep, root_correction) - 80usize];
    ["Offset of field: AdamwEmaStep::first_rate"][::core::mem::offset_of!(AdamwEmaStep, first_rate) - 84usize];
    ["Offset of field: AdamwEmaStep::second_decay"][::core::mem::offset_of!(AdamwEmaStep, second_decay) - 88usize];
    ["Offset of field: AdamwEmaStep::second_rate"][::core::mem::offset_of!(AdamwEmaStep, second_rate) - 92usize];
    ["Offset of field: AdamwEmaStep::eps"][::core::mem::offset_of!(AdamwEmaStep, eps) - 96usize];
    ["Offset of field: AdamwEmaStep::ema_rate"][::core::mem::offset_of!(AdamwEmaStep, ema_rate) - 100usize];
    ["Offset of field: AdamwEmaStep::gradient_scale"][::core::mem::offset_of!(AdamwEmaStep, gradient_scale) - 104usize];
    ["Offset of field: AdamwEmaStep::max_norm"][::core::mem::offset_of!(AdamwEmaStep, max_norm) - 108usize];
};
