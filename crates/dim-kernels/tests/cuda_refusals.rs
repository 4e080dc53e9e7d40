//! What the CUDA kernels do not take is refused with the argument's name and what is supported. No GPU is needed: the
//! checks run before any pointer is used.
#![allow(unsafe_code, reason = "device memory")]
#![allow(clippy::unwrap_used)]

use std::ffi::c_void;
use std::ptr;

use dim_kernels::adamw_ema;
use dim_kernels::causal_conv1d::{self, CausalConv1d};
use dim_kernels::norm_modulate::{self, Branch, Norm, NormModulate, NormModulateOutputs};
use dim_kernels::selective_scan::{self, SelectiveScan};
use dim_kernels::{DType, Device, KernelError, Queue, TensorView, TensorViewMut};

const QUEUE: Queue = Queue::Cuda { ordinal: 0, stream: ptr::null_mut() };

/// Memory that no test touches.
fn nowhere() -> *mut c_void {
    ptr::without_provenance_mut(4096)
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|dimension| shape[dimension + 1..].iter().product()).collect()
}

fn view(dtype: DType, shape: &[usize]) -> TensorView<'static> {
    // SAFETY: every call of these tests is refused before it reads the memory.
    unsafe { TensorView::from_raw_parts(nowhere(), dtype, Device::Cuda(0), shape, &strides(shape)) }.unwrap()
}

fn view_mut(dtype: DType, shape: &[usize]) -> TensorViewMut<'static> {
    // SAFETY: every call of these tests is refused before it writes the memory.
    unsafe { TensorViewMut::from_raw_parts(nowhere(), dtype, Device::Cuda(0), shape, &strides(shape)) }.unwrap()
}

fn scan(state: usize, dtype: DType) -> SelectiveScan<'static> {
    SelectiveScan {
        u: view(dtype, &[2, 5, 3]),
        delta: view(dtype, &[2, 5, 3]),
        a: view(DType::F32, &[3, state]),
        b: view(dtype, &[2, 5, state]),
        c: view(dtype, &[2, 5, state]),
        d: None,
        z: None,
        delta_bias: None,
        delta_softplus: false,
        initial_state: None,
        token_map: None,
    }
}

fn refusal(scan: &SelectiveScan<'_>) -> KernelError {
    selective_scan::forward(&QUEUE, scan, view_mut(scan.u.dtype(), &[2, 5, 3]), None).unwrap_err()
}

#[test]
fn a_state_count_without_a_kernel_is_refused_with_those_that_have_one() {
    let message = refusal(&scan(7, DType::F32)).to_string();
    let expected =
        "selective_scan::forward: the state dimension of `a` must be one of 8, 16, 32, 64 on CUDA device 0, got 7";
    assert_eq!(message, expected);
}

#[test]
fn a_width_without_a_kernel_is_refused_with_those_that_have_one() {
    for width in [1, 9] {
        let x = view(DType::Bf16, &[2, 5, 3]);
        let conv = CausalConv1d { x, weight: view(DType::F32, &[3, width]), bias: None, silu: true, token_map: None };
        let error = causal_conv1d::forward(&QUEUE, &conv, view_mut(DType::Bf16, &[2, 5, 3])).unwrap_err();
        assert!(error.to_string().contains("`weight` must be one of 2, 3, 4, 5, 6, 7, 8"), "{error}");
    }
}

#[test]
fn activations_of_several_dtypes_are_refused() {
    let mixed = SelectiveScan { delta: view(DType::F32, &[2, 5, 3]), ..scan(16, DType::Bf16) };
    let message = refusal(&mixed).to_string();
    assert_eq!(message, "selective_scan::forward: `delta` must be of the dtype of `u` on CUDA device 0, got f32");
}

#[test]
fn parameters_in_half_precision_are_refused() {
    let half = SelectiveScan { a: view(DType::Bf16, &[3, 16]), ..scan(16, DType::Bf16) };
    assert_eq!(refusal(&half).to_string(), "selective_scan::forward: `a` must be f32 on CUDA device 0, got bf16");
}

#[test]
fn streams_and_activations_of_two_half_precisions_are_refused() {
    let forward = |x: DType, y: DType, out: DType| {
        let branch = Branch { y: view(y, &[2, 5, 3]), gate: None, gate_offset: 0.0 };
        let op = NormModulate {
            branch: Some(branch),
            norm: Norm::Rms { eps: 1e-5 },
            weight: None,
            bias: None,
            scale: None,
            shift: None,
        };
        let outputs = NormModulateOutputs { r: None, out: Some(view_mut(out, &[2, 5, 3])), statistics: None };
        norm_modulate::forward(&QUEUE, &op, &view(x, &[2, 5, 3]), outputs).unwrap_err().to_string()
    };
    let message = forward(DType::F16, DType::Bf16, DType::Bf16);
    let expected = "f32, or of one dtype with `y`, `out` and their gradients";
    assert_eq!(message, format!("norm_modulate::forward: `x` must be {expected} on CUDA device 0, got f16"));
    let message = forward(DType::F32, DType::Bf16, DType::F16);
    assert!(message.contains("`outputs.out` must be of one dtype with `y`"), "{message}");
}

#[test]
fn memory_of_another_device_is_refused() {
    let values = [0.0; 30];
    let host = SelectiveScan { u: TensorView::from_slice(&values, &[2, 5, 3]).unwrap(), ..scan(16, DType::F32) };
    assert!(matches!(refusal(&host), KernelError::Device { argument: "u", got: Device::Cpu, .. }));
}

#[test]
fn sequences_too_long_to_count_are_refused() {
    let shape = [1, (1 << 30) + 1, 1];
    let long = view(DType::F32, &shape);
    let conv = CausalConv1d { x: long, weight: view(DType::F32, &[1, 3]), bias: None, silu: true, token_map: None };
    let error = causal_conv1d::forward(&QUEUE, &conv, view_mut(DType::F32, &shape)).unwrap_err();
    assert!(matches!(error, KernelError::Size { axis: "token", .. }), "{error}");
}

#[test]
fn gradients_in_half_precision_are_refused() {
    let gradients = view(DType::F16, &[5]);
    let error = adamw_ema::gradient_norm(&QUEUE, &gradients, 1.0, view_mut(DType::F32, &[1])).unwrap_err();
    let message = "adamw_ema::gradient_norm: `gradients` must be f32 or bf16 on CUDA device 0, got f16";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_norm_in_half_precision_is_refused() {
    let gradients = view(DType::Bf16, &[5]);
    let error = adamw_ema::gradient_norm(&QUEUE, &gradients, 1.0, view_mut(DType::Bf16, &[1])).unwrap_err();
    assert_eq!(error.to_string(), "adamw_ema::gradient_norm: `norm` must be f32 on CUDA device 0, got bf16");
}
