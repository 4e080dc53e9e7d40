//! A training step must not wait for the GPU: the host prepares the next while the device is at this one. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../dim-torch/tests/gpu/mod.rs"]
mod gpu;

use dim_diffusion::objective::{Objective, ObjectiveOptions};
use dim_diffusion::upload;
use dim_model::{BackboneConfig, DimConfig, ModelConfig, Precision};
use dim_torch::{AdamW, AdamWConfig, Parameters, TorchError, profile};
use dim_trainer::Network;
use dim_trainer::config::Schedule;
use dim_trainer::sampling::build_schedule;
use gpu::gpu;
use tch::{Cuda, Kind, Tensor};

const BATCH: i64 = 4;

#[test]
fn profile_of_a_step_has_no_waits() {
    let Some((device, _alone)) = gpu("profile_of_a_step_has_no_waits") else { return };
    let config = DimConfig::tiny();
    let parameters = Parameters::zeros(&config.parameter_specs(), device).unwrap();
    let network = Network::new(ModelConfig::Dim(config.clone()), parameters, Precision::Bf16).unwrap();
    network.initialise(5).unwrap();
    let options = ObjectiveOptions { class_dropout: 0.5, ..ObjectiveOptions::default() };
    let objective = Objective::new(options, Some(config.null_label() as i64), 7).unwrap();
    let schedule = build_schedule(Schedule::Sd, 1.0).unwrap();
    let optimizer = AdamWConfig {
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.01,
        clip_norm: Some(1.0),
        ema_decay: 0.9,
        ema_warmup: false,
    };
    let mut optimizer = AdamW::new(optimizer, network.parameters());
    let class = Tensor::from_slice(&[0_i64, 1, 2, 0]);
    let pixels = Tensor::ones([BATCH, 3, 8, 8], (Kind::Float, tch::Device::Cpu));
    let mut step = |first: u64| {
        network.parameters().zero_gradients();
        let images = upload(&pixels, device).unwrap();
        objective.loss(&network, &*schedule, &images, Some(&class), first).unwrap().mean.backward();
        let _ = optimizer.step(network.parameters(), 1e-3).unwrap();
    };
    // What is chosen and cached once may wait.
    (0..3).for_each(|index| step(index * BATCH as u64));
    Cuda::synchronize(0);
    let ((), events) = profile(|| {
        step(3 * BATCH as u64);
        Cuda::synchronize(0);
        Ok::<_, TorchError>(())
    })
    .unwrap();
    let count = |name: &str| events.iter().filter(|event| event.name == name).count();
    assert!(count("cudaLaunchKernel") > 10, "the profiler shows what the host calls");
    assert_eq!(count("cudaStreamSynchronize"), 0);
}
