//! Recorded work against the same work done directly. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

mod gpu;

use dim_torch::{CudaGraph, RecordedCalls, TorchError};
use gpu::gpu;
use tch::{Kind, Tensor};

#[test]
fn replay_computes_with_what_its_inputs_hold_then() {
    let Some((device, _alone)) = gpu("replay_computes_with_what_its_inputs_hold_then") else { return };
    let mut x = Tensor::randn([37, 64], (Kind::Float, device));
    let weight = Tensor::randn([128, 64], (Kind::Float, device));
    let compute = |x: &Tensor| Ok::<_, TorchError>(x.f_linear(&weight, None::<&Tensor>)?.f_silu()?);
    let (graph, out) = CudaGraph::record(0, 3, || compute(&x)).unwrap();
    for _ in 0..3 {
        x.copy_(&Tensor::randn([37, 64], (Kind::Float, device)));
        graph.replay().unwrap();
        let expected = compute(&x).unwrap();
        assert!(out.allclose(&expected, 1e-5, 1e-5, false));
    }
}

#[test]
fn work_that_waits_for_the_device_is_refused_and_the_stream_is_whole_again() {
    let Some((device, _alone)) = gpu("work_that_waits_for_the_device_is_refused_and_the_stream_is_whole_again") else {
        return;
    };
    let x = Tensor::ones([8], (Kind::Float, device));
    let result = CudaGraph::record(0, 3, || {
        let sum = (&x * 2.0).sum(Kind::Float);
        // Reads the host's memory: no recording can hold that.
        Ok::<_, TorchError>(Tensor::from_slice(&[sum.f_double_value(&[])?]))
    });
    assert!(result.is_err());
    assert_eq!((&x + 1.0).sum(Kind::Float).double_value(&[]), 16.0);
}

#[test]
fn recorded_calls_give_the_bits_of_direct_ones_in_tensors_of_their_own() {
    let Some((device, _alone)) = gpu("recorded_calls_give_the_bits_of_direct_ones_in_tensors_of_their_own") else {
        return;
    };
    let weight = Tensor::randn([64, 64], (Kind::Float, device));
    let work = |arguments: &[Tensor]| {
        let product = arguments[0].f_linear(&weight, None::<&Tensor>)?;
        let shift = arguments.get(1).map_or_else(|| product.f_zeros_like(), |shift| shift.f_to_kind(Kind::Float))?;
        Ok::<_, TorchError>(product.f_silu()?.f_add(&shift)?)
    };
    let mut calls = RecordedCalls::new(0);
    let mut results = Vec::new();
    // More forms than are kept, some of them seen again at once, some later, some never.
    for rows in [5, 5, 5, 7, 5, 7, 7, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 9] {
        let x = Tensor::randn([rows, 64], (Kind::Float, device));
        let shift = Tensor::randint(9, [rows, 1], (Kind::Int64, device));
        for arguments in [vec![x.shallow_clone(), shift], vec![x]] {
            let result = calls.call(&arguments, work).unwrap();
            results.push((result, work(&arguments).unwrap()));
        }
    }
    assert_eq!(calls.refusal(), None);
    for (index, (found, expected)) in results.iter().enumerate() {
        assert!(found.equal(expected), "call {index}");
    }
}

#[test]
fn calls_that_cannot_be_recorded_are_done_directly() {
    let Some((device, _alone)) = gpu("calls_that_cannot_be_recorded_are_done_directly") else { return };
    let mut calls = RecordedCalls::new(0);
    for number in 1..=4 {
        let x = Tensor::full([8], f64::from(number), (Kind::Float, device));
        let sum = calls.call(&[x], |arguments: &[Tensor]| {
            let sum = arguments[0].f_sum(Kind::Float)?.f_double_value(&[])?; // waits for the device
            Ok::<_, TorchError>(Tensor::f_full([1], sum, (Kind::Float, device))?)
        });
        assert_eq!(sum.unwrap().double_value(&[0]), 8.0 * f64::from(number));
        assert_eq!(calls.refusal().is_some(), number >= 2);
    }
}
