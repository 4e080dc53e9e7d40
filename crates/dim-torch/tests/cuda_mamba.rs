//! The Mamba layer in bf16 on a GPU, also inside a checkpoint, against the same layer in f32 on the CPU. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Mutex, PoisonError};

use dim_torch::{
    TokenMap, TorchError, checkpoint, cuda,
    ops::{MambaInputs, MambaKeeps, Projection, mamba},
};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 3;
const TOKENS: i64 = 77;
const STATES: i64 = 16;

/// Width, channels and rank: of DiM's proportions, and such that no row begins where a vector does.
const SIZES: [[i64; 3]; 2] = [[64, 128, 4], [30, 61, 3]];

fn gpu(test: &str) -> Option<Device> {
    if cuda::start() {
        return Some(Device::Cuda(0));
    }
    assert!(std::env::var_os("DIM_REQUIRE_CUDA").is_none(), "{test} needs a GPU");
    eprintln!("{test}: skipped: no CUDA device");
    None
}

/// Input, and the parameters in the order in which the operation takes them, on the CPU.
fn values([width, channels, rank]: [i64; 3]) -> Vec<Tensor> {
    // libtorch's generator is one for all threads, and each test runs on its own.
    static DRAWS: Mutex<()> = Mutex::new(());
    let _alone = DRAWS.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(11);
    let normal = |shape: &[i64], scale: f64| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale;
    let fan = |inputs: i64| (inputs as f64).powf(-0.5);
    vec![
        normal(&[BATCH, TOKENS, width], 1.0),
        normal(&[2 * channels, width], fan(width)),
        normal(&[channels, 3], 0.6),
        normal(&[channels], 0.3),
        normal(&[rank + 2 * STATES, channels], fan(channels)),
        normal(&[channels, rank], fan(rank)),
        normal(&[channels], 0.5),
        normal(&[channels, STATES], 0.5),
        normal(&[channels], 1.0),
        normal(&[width, channels], fan(channels)),
    ]
}

fn layer(leaves: &[Tensor], kind: Kind, map: &TokenMap, keeps: MambaKeeps) -> Result<Tensor, TorchError> {
    let computed: Vec<Tensor> = leaves.iter().map(|leaf| leaf.detach().to_kind(kind)).collect();
    let projection = |index: usize| Projection { weight: &leaves[index], computed: &computed[index] };
    let inputs = MambaInputs {
        input: &leaves[0].to_kind(kind),
        in_proj: projection(1),
        conv_weight: &leaves[2],
        conv_bias: &leaves[3],
        x_proj: projection(4),
        dt_proj: projection(5),
        delta_bias: &leaves[6],
        a_log: &leaves[7],
        a: &-leaves[7].detach().exp(),
        d: &leaves[8],
        out_proj: projection(9),
    };
    mamba(&inputs, Some(map), keeps)
}

/// The output and all gradients, on the CPU.
fn evaluate(sizes: [i64; 3], device: Device, kind: Kind, keeps: MambaKeeps, again: bool) -> Vec<Tensor> {
    let leaf = |value: Tensor| value.to_device(device).detach().set_requires_grad(true);
    let leaves: Vec<Tensor> = values(sizes).into_iter().map(leaf).collect();
    let map = TokenMap::new((0..TOKENS as u32).map(|step| (step * 5 + 3) % TOKENS as u32).collect()).unwrap();
    let out = if again {
        let inputs: Vec<&Tensor> = leaves.iter().collect();
        let outputs = checkpoint(&inputs, move |leaves| Ok(vec![layer(leaves, kind, &map, keeps)?]));
        outputs.unwrap().remove(0)
    } else {
        layer(&leaves, kind, &map, keeps).unwrap()
    };
    let weights = Tensor::arange(out.numel() as i64, (Kind::Float, Device::Cpu)).sin().view_as(&out).to_device(device);
    (out.to_kind(Kind::Float) * weights).sum(Kind::Float).backward();
    let all = std::iter::once(out.detach()).chain(leaves.iter().map(Tensor::grad));
    all.map(|tensor| tensor.to_kind(Kind::Double).to_device(Device::Cpu)).collect()
}

fn rms(tensor: &Tensor) -> f64 {
    tensor.square().mean(Kind::Double).sqrt().double_value(&[])
}

#[test]
fn layer_in_bf16_is_that_of_f32_but_for_rounding() {
    let Some(device) = gpu("layer_in_bf16_is_that_of_f32_but_for_rounding") else { return };
    for sizes in SIZES {
        let expected = evaluate(sizes, Device::Cpu, Kind::Float, MambaKeeps::ScanOutput, false);
        for (keeps, again) in
            [(MambaKeeps::ScanOutput, false), (MambaKeeps::Nothing, false), (MambaKeeps::Nothing, true)]
        {
            let found = evaluate(sizes, device, Kind::BFloat16, keeps, again);
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let error = rms(&(found - expected)) / rms(expected);
                // A chain of some ten roundings of 2⁻⁹ each.
                assert!(error < 0.02, "{sizes:?}, {keeps:?}, again {again}, tensor {index}: {error}");
            }
        }
    }
}

#[test]
fn same_bits_twice_whatever_is_kept() {
    let Some(device) = gpu("same_bits_twice_whatever_is_kept") else { return };
    let of = |keeps, again| evaluate(SIZES[0], device, Kind::BFloat16, keeps, again);
    let first = of(MambaKeeps::ScanOutput, false);
    for (keeps, again) in
        [(MambaKeeps::ScanOutput, false), (MambaKeeps::Nothing, false), (MambaKeeps::ScanOutput, true)]
    {
        assert!(first.iter().zip(&of(keeps, again)).all(|(one, other)| one.equal(other)), "{keeps:?}, {again}");
    }
}
