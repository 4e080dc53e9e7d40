//! Samples drawn by replaying CUDA graphs against samples drawn kernel by kernel. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../dim-torch/tests/gpu/mod.rs"]
mod gpu;

use std::ops::ControlFlow;

use dim_diffusion::Denoiser;
use dim_model::Precision;
use dim_trainer::Network;
use dim_trainer::config::Config;
use dim_trainer::sampling::{Request, sample};
use gpu::gpu;
use tch::{Device, Kind, Tensor, no_grad};

fn config(preset: &str) -> Config {
    let text = format!(
        r#"
        [model]
        preset = "{preset}"
        classes = 2
        [data]
        source = "folder"
        path = "nowhere"
        [diffusion]
        schedule = "sd"
        class_dropout = 0.2
        [train]
        images = 1
        batch_size = 1
        lr = 1e-3
        warmup_images = 1
        beta1 = 0.9
        beta2 = 0.99
        eps = 1e-8
        weight_decay = 0.0
        clip_norm = 1.0
        ema_decay = 0.9
        random_flip = false
        log_every_steps = 1
        checkpoint_every_images = 1
        [sample]
        cfg_scale = 1.5
        [sample.sampler]
        algorithm = "dpm_solver"
        steps = 6
        order = 2
        "#
    );
    Config::parse(&text, "the test", &[]).unwrap()
}

/// A network whose weights are none of those that a fresh one begins with, many of which are zero.
fn network(config: &Config, device: Device, precision: Precision) -> Network {
    let network = Network::unfilled(config, device, precision).unwrap();
    tch::manual_seed(5);
    let noise = Tensor::randn(network.parameters().values().size(), (Kind::Float, device)) * 0.05;
    no_grad(|| network.parameters().values().copy_(&noise));
    network
}

#[test]
fn samples_with_and_without_graphs_are_the_same_bits() {
    let Some((device, _alone)) = gpu("samples_with_and_without_graphs_are_the_same_bits") else { return };
    let config = config("tiny");
    for precision in [Precision::F32, Precision::Bf16] {
        let direct = network(&config, device, precision);
        let mut recorded = network(&config, device, precision);
        recorded.record_calls();
        let plain = Request { batch_size: 2, ..Request::plain(&config, 2, 5) };
        let requests = [
            // The last batch is smaller.
            plain.clone(),
            // Guided and unguided calls in turn.
            Request { guidance_interval: Some([200.0, 700.0]), guidance_rescale: 0.5, ..plain.clone() },
            // Another size, and back; two sizes at every step.
            Request { size: [plain.size[0], 2 * plain.size[1]], ..plain.clone() },
            Request { upsample: Some(2), size: plain.size.map(|side| 2 * side), ..plain.clone() },
            plain,
        ];
        for (index, request) in requests.iter().enumerate() {
            let draw = |network| sample(network, request, |_, _| ControlFlow::Continue(())).unwrap();
            let (expected, found) = (draw(&direct), draw(&recorded));
            assert!(expected.isfinite().all().int64_value(&[]) == 1, "{precision:?}, request {index}");
            assert!(found.equal(&expected), "{precision:?}, request {index}");
        }
    }
}

#[test]
fn weights_that_change_are_those_that_are_used() {
    let Some((device, _alone)) = gpu("weights_that_change_are_those_that_are_used") else { return };
    let config = config("tiny");
    let mut network = network(&config, device, Precision::Bf16);
    network.record_calls();
    let shape = [1, 3, config.data_size() as i64, config.data_size() as i64];
    let x = Tensor::ones(shape, (Kind::Float, device));
    let t = Tensor::full([1], 500.0, (Kind::Float, device));
    let class = Tensor::zeros([1], (Kind::Int64, device));
    let call = || no_grad(|| network.predict(&x, &t, Some(&class)).unwrap());
    let before = [call(), call(), call()];
    assert!(before.iter().all(|found| found.equal(&before[0])));
    let _ = no_grad(|| network.parameters().values().g_mul_scalar_(0.5));
    let after = [call(), call(), call()];
    assert!(after.iter().all(|found| found.equal(&after[0])));
    assert!(!after[0].equal(&before[0]));
}
