//! Recorded work against the same work done directly. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_torch::{CudaGraph, TorchError, cuda};
use tch::{Device, Kind, Tensor};

/// A GPU, or why the test is skipped; under `DIM_REQUIRE_CUDA` skipping is a failure.
fn gpu(test: &str) -> Option<Device> {
    if cuda::start() {
        return Some(Device::Cuda(0));
    }
    assert!(std::env::var_os("DIM_REQUIRE_CUDA").is_none(), "{test} needs a GPU");
    eprintln!("{test}: skipped: no CUDA device");
    None
}

#[test]
fn replay_computes_with_what_its_inputs_hold_then() {
    let Some(device) = gpu("replay_computes_with_what_its_inputs_hold_then") else { return };
    let mut x = Tensor::randn([37, 64], (Kind::Float, device));
    let weight = Tensor::randn([128, 64], (Kind::Float, device));
    let compute = |x: &Tensor| Ok::<_, TorchError>(x.f_linear(&weight, None::<&Tensor>)?.f_silu()?);
    let (graph, out) = CudaGraph::record(0, || compute(&x)).unwrap();
    for _ in 0..3 {
        x.copy_(&Tensor::randn([37, 64], (Kind::Float, device)));
        graph.replay().unwrap();
        let expected = compute(&x).unwrap();
        assert!(out.allclose(&expected, 1e-5, 1e-5, false));
    }
}

#[test]
fn work_that_waits_for_the_device_is_refused_and_the_stream_is_whole_again() {
    let Some(device) = gpu("work_that_waits_for_the_device_is_refused_and_the_stream_is_whole_again") else { return };
    let x = Tensor::ones([8], (Kind::Float, device));
    let result = CudaGraph::record(0, || {
        let sum = (&x * 2.0).sum(Kind::Float);
        // Reads the host's memory: no recording can hold that.
        Ok::<_, TorchError>(Tensor::from_slice(&[sum.f_double_value(&[])?]))
    });
    assert!(result.is_err());
    assert_eq!((&x + 1.0).sum(Kind::Float).double_value(&[]), 16.0);
}
