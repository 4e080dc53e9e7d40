//! Processes that work together, as threads of a test or as processes of their own, and three steps that they take.
#![allow(dead_code, clippy::unwrap_used)] // every test file takes its part

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use dim_torch::distributed::{Place, Reducer, ReducerOptions, Split, Timeouts, World};
use dim_torch::{AdamW, AdamWConfig, ParameterSpec, Parameters, TorchError, ops};
use tch::{Device, Kind, Tensor, no_grad};

pub(crate) const TIMEOUTS: Timeouts = Timeouts { start: Duration::from_secs(20), operation: Duration::from_secs(20) };

pub(crate) fn place(rank: usize, size: usize, port: u16) -> Place {
    let host = format!("host{rank}");
    let address = "127.0.0.1".to_owned();
    Place { rank, size, local_rank: rank, address, port, launcher_holds_store: false, attempt: 0, host }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs `work` as each of `size` processes; its results by rank.
pub(crate) fn together<T: Send>(size: usize, work: impl Fn(World) -> T + Sync) -> Vec<T> {
    let port = free_port();
    thread::scope(|scope| {
        let start = |rank| {
            let work = &work;
            scope.spawn(move || {
                tch::set_num_threads(1);
                work(World::join(&place(rank, size, port), Device::Cpu, "same", TIMEOUTS).unwrap())
            })
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

pub(crate) const CONFIG: AdamWConfig = AdamWConfig {
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.01,
    clip_norm: Some(0.5),
    ema_decay: 0.9,
    ema_warmup: false,
};
/// Examples of a step; they divide by 1, 2, 3 and 4.
pub(crate) const EXAMPLES: i64 = 12;

pub(crate) fn start(parameters: &Parameters) {
    for (index, (_, leaf)) in parameters.iter().enumerate() {
        let count = leaf.numel() as i64;
        let values = (Tensor::arange(count, (Kind::Float, Device::Cpu)) + index as f64).sin() * 0.3;
        no_grad(|| leaf.shallow_clone().copy_(&values.view_as(leaf)));
    }
}

pub(crate) fn farthest(one: &Tensor, other: &Tensor) -> f64 {
    let length = one.size()[0].min(other.size()[0]);
    (one.narrow(0, 0, length) - other.narrow(0, 0, length)).abs().max().double_value(&[])
}

/// Three steps of a network that reads its matrices in bf16 and `scale` in f32: the f32 values of all, and the same of the copy.
pub(crate) fn in_bf16(world: World, device: Device, split: Split) -> (Tensor, Tensor) {
    let specs: Vec<_> =
        [("first", &[40, 30][..]), ("scale", &[40]), ("bias", &[50]), ("last", &[50, 40]), ("tail", &[3])]
            .iter()
            .map(|(name, shape)| ParameterSpec::new(*name, shape))
            .collect();
    let (rank, size) = (world.rank() as i64, world.size() as i64);
    let parts = if split == Split::None { 1 } else { world.size() };
    let parameters = Parameters::zeros_in_parts(&specs, device, parts, split != Split::Gradients);
    let parameters = parameters.unwrap().with_bf16_copy();
    start(&parameters);
    let length = parameters.padded_length() / parts as i64;
    let own = if parts == 1 { 0 } else { rank * length };
    let slice = parameters.part(own, length).unwrap();
    let mut optimizer = AdamW::of_slice(CONFIG, &slice, own).decaying_matrices_alone(&parameters);
    let options = ReducerOptions { bucket_bytes: 1000, bf16: false, split };
    let reducer = Reducer::new(&world, &parameters, options).unwrap();
    let product = |x: &Tensor, name: &str| {
        let weight = parameters.weight(name).unwrap();
        let computed = weight.computed(Kind::BFloat16).unwrap();
        ops::linear(x, weight.projection(&computed), None).unwrap()
    };
    let count = EXAMPLES / size;
    for step in 0..3 {
        reducer.zero().unwrap();
        let index =
            Tensor::arange(count * 30, (Kind::Float, Device::Cpu)) + (30 * (EXAMPLES * step + rank * count)) as f64;
        let x = product(&index.cos().view([count, 30]).to_device(device).to_kind(Kind::BFloat16), "first")
            .to_kind(Kind::Float)
            .tanh();
        let x = product(&(x * parameters.get("scale").unwrap()).to_kind(Kind::BFloat16), "last").to_kind(Kind::Float);
        reducer.backward(&(x.square().sum(Kind::Float) / EXAMPLES as f64), true).unwrap();
        let _ = match split {
            Split::None => optimizer.step(&parameters, 0.05),
            _ => optimizer.step_slice(&world, &parameters, &reducer.gradients().unwrap(), 0.05, || reducer.zero()),
        }
        .unwrap();
    }
    let copy = |name: &str| parameters.weight(name).unwrap().computed(Kind::BFloat16).unwrap().flatten(0, -1);
    let copies = Tensor::cat(&specs.iter().map(|spec| copy(&spec.name)).collect::<Vec<_>>(), 0);
    if split != Split::None {
        // What nobody has read in f32 is old: that is said, until all is sent.
        assert!(parameters.get("scale").is_ok());
        let error = parameters.get("last").unwrap_err();
        assert!(matches!(&error, TorchError::Behind(name) if name == "last"), "{error}");
        let _ = no_grad(|| parameters.leaf("tail").unwrap().fill_(0.5)); // a write that nobody was told of
        let error = parameters.weight("first").unwrap().computed(Kind::BFloat16).unwrap_err();
        assert!(matches!(&error, TorchError::Behind(name) if name == "first"), "{error}");
        parameters.share_parts(&world, &slice).unwrap();
        let _ = copy("first");
    }
    let values = parameters.iter().map(|(_, leaf)| leaf.detach().flatten(0, -1)).collect::<Vec<_>>();
    world.leave().unwrap();
    let on_cpu = |tensor: Tensor| tensor.to_kind(Kind::Float).to_device(Device::Cpu);
    (on_cpu(Tensor::cat(&values[..4], 0)), on_cpu(copies))
}

/// Two results of [`in_bf16`] by as many processes, with nothing split and with slices, are the same to rounding.
pub(crate) fn assert_same_steps(whole: &(Tensor, Tensor), slices: &(Tensor, Tensor), size: usize, split: Split) {
    // Sums of one or two are the same in any order, but for that of the norm; those of more differ, and so may what is rounded to bf16.
    let tolerance = if size <= 2 { 1e-6 } else { 1e-3 };
    let apart = (farthest(&whole.0, &slices.0), farthest(&whole.1, &slices.1));
    assert!(apart.0 <= tolerance && apart.1 <= 4e-3, "{split:?}, {size} processes: {apart:?}");
}
