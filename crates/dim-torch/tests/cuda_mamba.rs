//! The Mamba layer in bf16 on a GPU, also inside a checkpoint, against the same layer in f32 on the CPU. Needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

mod gpu;

use std::net::TcpListener;
use std::time::Duration;

use dim_torch::{
    TokenMap, TorchError, checkpoint,
    distributed::{Place, Timeouts, World},
    ops::{MambaInputs, MambaKeeps, Projection, Strip, mamba, mamba_of_strip},
};
use gpu::gpu;
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 3;
const TOKENS: i64 = 77;
const STATES: i64 = 16;

/// Width, channels and rank: of DiM's proportions, and such that no row begins where a vector does.
const SIZES: [[i64; 3]; 2] = [[64, 128, 4], [30, 61, 3]];

/// Input, and the parameters in the order in which the operation takes them, on the CPU.
fn values([width, channels, rank]: [i64; 3]) -> Vec<Tensor> {
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

/// What `f` makes of the layer's tensors.
fn layer<T>(leaves: &[Tensor], kind: Kind, f: impl FnOnce(&MambaInputs) -> T) -> T {
    let computed: Vec<Tensor> = leaves.iter().map(|leaf| leaf.detach().to_kind(kind)).collect();
    let projection = |index: usize| Projection { weight: &leaves[index], computed: &computed[index], sum: None };
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
    f(&inputs)
}

/// The order of `count` tokens from number `first` on, those before it in theirs.
fn order(first: u32, count: u32) -> TokenMap {
    TokenMap::new((0..first).chain((0..count).map(|step| first + (step * 5 + 3) % count)).collect()).unwrap()
}

/// The output and all gradients, on the CPU.
fn evaluate(sizes: [i64; 3], device: Device, kind: Kind, keeps: MambaKeeps, again: bool) -> Vec<Tensor> {
    let map = order(0, TOKENS as u32);
    results(sizes, device, |leaves| {
        if !again {
            return layer(leaves, kind, |inputs| mamba(inputs, Some(&map), keeps)).unwrap();
        }
        let (inputs, map) = (leaves.iter().collect::<Vec<_>>(), map.clone());
        let outputs = checkpoint(&inputs, move |leaves| {
            Ok::<_, TorchError>(vec![layer(leaves, kind, |inputs| mamba(inputs, Some(&map), keeps))?])
        });
        outputs.unwrap().remove(0)
    })
}

/// What `run` makes of the leaves, and all gradients, on the CPU.
fn results(sizes: [i64; 3], device: Device, run: impl FnOnce(&[Tensor]) -> Tensor) -> Vec<Tensor> {
    let leaf = |value: Tensor| value.to_device(device).detach().set_requires_grad(true);
    let leaves: Vec<Tensor> = values(sizes).into_iter().map(leaf).collect();
    let out = run(&leaves);
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
    let Some((device, _alone)) = gpu("layer_in_bf16_is_that_of_f32_but_for_rounding") else { return };
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
    let Some((device, _alone)) = gpu("same_bits_twice_whatever_is_kept") else { return };
    let of = |keeps, again| evaluate(SIZES[0], device, Kind::BFloat16, keeps, again);
    let first = of(MambaKeeps::ScanOutput, false);
    for (keeps, again) in
        [(MambaKeeps::ScanOutput, false), (MambaKeeps::Nothing, false), (MambaKeeps::ScanOutput, true)]
    {
        assert!(first.iter().zip(&of(keeps, again)).all(|(one, other)| one.equal(other)), "{keeps:?}, {again}");
    }
}

/// One process that has the whole sequence as its strip walks it in two steps, there and back.
#[test]
fn strip_of_all_tokens_is_the_sequence() {
    let Some((device, _alone)) = gpu("strip_of_all_tokens_is_the_sequence") else { return };
    const PREFIX: u32 = 5;
    let count = TOKENS as u32 - PREFIX;
    let edge = |steps: [u32; 2]| {
        let token = steps.map(|step| i64::from(PREFIX + (step * 5 + 3) % count));
        Tensor::from_slice(&token).to_device(device)
    };
    let strip = Strip {
        prefix: PREFIX.into(),
        token_map: order(PREFIX, count),
        strip_map: order(0, count),
        first: edge([0, 1]),
        last: edge([count - 2, count - 1]),
        before: Vec::new(),
        behind: Vec::new(),
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (address, host, patience) = ("127.0.0.1".to_owned(), "host".to_owned(), Duration::from_secs(60));
    let (rank, size, local_rank, launcher_holds_store, attempt) = (0, 1, 0, false, 0);
    let place = Place { rank, size, local_rank, address, port, launcher_holds_store, attempt, host };
    let world = World::join(&place, device, "same", Timeouts { start: patience, operation: patience }).unwrap();
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 0.02)] {
        for keeps in [MambaKeeps::ScanOutput, MambaKeeps::Nothing] {
            let expected = results(SIZES[0], device, |leaves| {
                layer(leaves, kind, |inputs| mamba(inputs, Some(&strip.token_map), keeps)).unwrap()
            });
            let found = results(SIZES[0], device, |leaves| {
                layer(leaves, kind, |inputs| mamba_of_strip(inputs, &strip, &world, keeps)).unwrap()
            });
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let error = rms(&(found - expected)) / rms(expected);
                assert!(error < tolerance, "{kind:?}, {keeps:?}, tensor {index}: {error}");
            }
        }
    }
    world.leave().unwrap();
}
