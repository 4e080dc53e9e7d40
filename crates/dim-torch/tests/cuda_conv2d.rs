//! Convolutions of f32 on a GPU against those of f64. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

mod gpu;

use dim_torch::ops::conv2d;
use gpu::gpu;
use tch::{Device, Kind, Tensor};

#[test]
fn results_and_gradients_are_those_of_f64_but_for_rounding() {
    let Some((device, _alone)) = gpu("results_and_gradients_are_those_of_f64_but_for_rounding") else { return };
    for (channels, outputs, side, stride, padding) in [(64, 32, 3, 1, 1), (64, 64, 3, 2, 0), (48, 20, 1, 1, 0)] {
        tch::manual_seed(6);
        let randn = |size: &[i64], scale: f64| Tensor::randn(size, (Kind::Float, Device::Cpu)) * scale;
        let fan = (channels * side * side) as f64;
        let values = [
            randn(&[2, channels, 17, 13], 1.0),
            randn(&[outputs, channels, side, side], fan.powf(-0.5)),
            randn(&[outputs], 1.0),
        ];
        // Result and gradients, in f64 on the CPU.
        let of = |device: Device, kind: Kind| -> Vec<Tensor> {
            let leaf = |value: &Tensor| value.to_device(device).to_kind(kind).detach().set_requires_grad(true);
            let leaves = values.each_ref().map(leaf);
            let out = conv2d(&leaves[0], &leaves[1], &leaves[2], stride, padding).unwrap();
            // Of one sign: sums that cancel would lose digits in any order.
            let weights = Tensor::arange(out.numel() as i64, (Kind::Double, Device::Cpu)).sin().view_as(&out) + 1.5;
            (&out * weights.to_device(device).to_kind(kind)).sum(kind).backward();
            let all = std::iter::once(out.detach()).chain(leaves.iter().map(Tensor::grad));
            all.map(|tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double)).collect()
        };
        let (found, expected) = (of(device, Kind::Float), of(Device::Cpu, Kind::Double));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let largest = expected.abs().max().double_value(&[]);
            let error = (found - expected).abs().max().double_value(&[]) / largest;
            // Sums of up to 576 terms in f32, of which a CPU's lose 8e-7 at most.
            assert!(error < 3e-6, "{channels} channels, tensor {index}: {error}");
        }
    }
}
