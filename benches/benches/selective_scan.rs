//! The CPU scan beside its floor, and beside the same recurrence as a loop of libtorch operations.
//!
//! Floor: the multiplications and multiply-adds of the AVX-512 kernel at the speed that the processor does them at,
//! measured, with all else free: loads and stores, and the additions, roundings, look-ups, scalings and divisions, which
//! have units of their own. It is a lower bound for this way to compute the scan, not an estimate. A vector of channels
//! needs, for each token and state,
//! - an exponential: `delta A` (1) and the parabola (3), or 4;
//! - forward 7: the exponential (4), `B delta u` into the state (2), `C h` into the output (1);
//! - backward 21: a walk that leaves the states before every chunk (6), forward's 7 again, chunk by chunk, and the walk back
//!   (8): the gradient by the state (2), by B and C (2), by the input (1), by the decay (1), by the step size (1), by A (1);
//!
//! and for each token softplus (an exponential, 10, and an area tangent, 6), its slope (3), the gate (an exponential, 10, and
//! a sigmoid, 4), its slope (2), and what combines them: 33 forward, 63 backward, of which 17 are the first walk's.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, clippy::cast_possible_wrap)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dim_bench::{Numbers, Timing};
use dim_kernels::{
    Queue, TensorView, TensorViewMut, VectorUnits,
    selective_scan::{self, SelectiveScan, SelectiveScanGradients},
};
use tch::{Device, Kind, Tensor};

const FORWARD_PER_STATE: f64 = 7.0;
const FORWARD_PER_TOKEN: f64 = 33.0;
const BACKWARD_PER_STATE: f64 = 21.0;
const BACKWARD_PER_TOKEN: f64 = 63.0;

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    token: usize,
    channel: usize,
    state: usize,
}

/// The shape of the target (DiM-S at four images), the demo's, a small batch of narrow channels, and one image of DiM-H.
const SHAPES: [Shape; 4] = [
    Shape { batch: 4, token: 366, channel: 1024, state: 16 },
    Shape { batch: 16, token: 230, channel: 256, state: 16 },
    Shape { batch: 32, token: 126, channel: 384, state: 16 },
    Shape { batch: 1, token: 366, channel: 3072, state: 16 },
];

/// Timed calls of each kernel.
const RUNS: usize = 101;

impl Shape {
    fn name(self) -> String {
        format!("{}x{}x{}x{}", self.batch, self.token, self.channel, self.state)
    }

    /// Time that the vector units need for so many instructions a state and a token.
    fn floor(self, units: VectorUnits, per_state: f64, per_token: f64) -> Duration {
        let vectors = (self.batch * self.token * self.channel) as f64 / units.lanes as f64;
        let instructions = vectors * (per_state * self.state as f64 + per_token);
        Duration::from_secs_f64(instructions / units.instructions_per_s)
    }
}

/// Inputs, outputs and gradients of one scan.
struct Buffers {
    shape: Shape,
    inputs: Vec<Numbers>,
    outputs: Vec<Numbers>,
}

impl Buffers {
    fn new(shape: Shape) -> Self {
        let Shape { batch, token, channel, state } = shape;
        let (wide, narrow) = (batch * token * channel, batch * token * state);
        let sizes = [wide, wide, channel * state, narrow, narrow, channel, wide, channel];
        let mut inputs: Vec<Numbers> =
            sizes.iter().enumerate().map(|(seed, &size)| Numbers::random(size, seed as u64 + 1)).collect();
        for (index, a) in inputs[2].iter_mut().enumerate() {
            *a = -((index % state + 1) as f32);
        }
        let outputs = sizes.iter().map(|&size| Numbers::zeros(size)).collect();
        Self { shape, inputs, outputs }
    }

    fn shapes(&self) -> [Vec<usize>; 8] {
        let Shape { batch, token, channel, state } = self.shape;
        let (wide, narrow) = (vec![batch, token, channel], vec![batch, token, state]);
        [wide.clone(), wide.clone(), vec![channel, state], narrow.clone(), narrow, vec![channel], wide, vec![channel]]
    }

    fn scan(&self) -> SelectiveScan<'_> {
        let view = |index: usize| TensorView::from_slice(&self.inputs[index], &self.shapes()[index]).unwrap();
        SelectiveScan {
            u: view(0),
            delta: view(1),
            a: view(2),
            b: view(3),
            c: view(4),
            d: Some(view(5)),
            z: Some(view(6)),
            delta_bias: Some(view(7)),
            delta_softplus: true,
            initial_state: None,
            token_map: None,
        }
    }

    fn forward(&mut self) {
        let shapes = self.shapes();
        let mut outputs = std::mem::take(&mut self.outputs);
        let out = TensorViewMut::from_slice(&mut outputs[0], &shapes[0]).unwrap();
        selective_scan::forward(&Queue::Cpu, &self.scan(), out, None).unwrap();
        self.outputs = outputs;
    }

    fn backward(&mut self) {
        let shapes = self.shapes();
        let mut outputs = std::mem::take(&mut self.outputs);
        let grad_out = TensorView::from_slice(&self.inputs[6], &shapes[0]).unwrap();
        let mut views =
            outputs.iter_mut().zip(&shapes).map(|(output, shape)| TensorViewMut::from_slice(output, shape).unwrap());
        let mut next = || views.next().unwrap();
        let gradients = SelectiveScanGradients {
            u: next(),
            delta: next(),
            a: next(),
            b: next(),
            c: next(),
            d: Some(next()),
            z: Some(next()),
            delta_bias: Some(next()),
            initial_state: None,
        };
        selective_scan::backward(&Queue::Cpu, &self.scan(), &grad_out, None, gradients).unwrap();
        self.outputs = outputs;
    }

    /// The same numbers as tensors that require gradients.
    fn leaves(&self) -> Vec<Tensor> {
        let sized = |shape: &Vec<usize>| shape.iter().map(|&size| size as i64).collect::<Vec<_>>();
        let shapes = self.shapes();
        let tensors = self.inputs.iter().zip(&shapes);
        let leaf = |input: &Numbers, shape| Tensor::from_slice(input).view(sized(shape).as_slice());
        tensors.map(|(input, shape)| leaf(input, shape).set_requires_grad(true)).collect()
    }
}

/// Forward and backward of the recurrence, a token at a time, as libtorch operations under autograd.
fn loop_of_operations(leaves: &mut [Tensor], upstream: &Tensor) {
    for leaf in leaves.iter_mut() {
        leaf.zero_grad();
    }
    let [u, delta, a, b, c, d, z, delta_bias] = leaves else { unreachable!("eight leaves") };
    let step = (&*delta + &*delta_bias).softplus();
    let size = u.size();
    let mut state = Tensor::zeros([size[0], size[2], a.size()[1]], (Kind::Float, Device::Cpu));
    let mut outputs = Vec::new();
    for token in 0..size[1] {
        let at = |tensor: &Tensor| tensor.select(1, token);
        let decay = (at(&step).unsqueeze(2) * &*a).exp();
        state = decay * state + (at(&step) * at(u)).unsqueeze(2) * at(b).unsqueeze(1);
        outputs.push((&state * at(c).unsqueeze(1)).sum_dim_intlist(2, false, Kind::Float));
    }
    let y = (Tensor::stack(&outputs, 1) + &*u * &*d) * z.silu();
    (y * upstream).sum(Kind::Float).backward();
}

fn bench(criterion: &mut Criterion) {
    tch::set_num_threads(std::thread::available_parallelism().map_or(1, |count| count.get() as i32));
    let units = VectorUnits::measure();
    let speed = units.instructions_per_s / 1e9;
    println!("vector units: {speed:.2} G multiply-adds/s of {} lanes, over all threads", units.lanes);
    let mut group = criterion.benchmark_group("selective_scan/cpu");
    for shape in SHAPES {
        let mut buffers = Buffers::new(shape);
        let name = shape.name();
        group.bench_function(BenchmarkId::new("forward", &name), |bencher| bencher.iter(|| buffers.forward()));
        group.bench_function(BenchmarkId::new("backward", &name), |bencher| bencher.iter(|| buffers.backward()));
        group.bench_function(BenchmarkId::new("both", &name), |bencher| {
            bencher.iter(|| {
                buffers.forward();
                buffers.backward();
            });
        });
        let forward_floor = shape.floor(units, FORWARD_PER_STATE, FORWARD_PER_TOKEN);
        let backward_floor = shape.floor(units, BACKWARD_PER_STATE, BACKWARD_PER_TOKEN);
        Timing::of(RUNS, || buffers.forward()).print_against(&format!("{name} forward"), forward_floor);
        Timing::of(RUNS, || buffers.backward()).print_against(&format!("{name} backward"), backward_floor);
        let both = Timing::of(RUNS, || {
            buffers.forward();
            buffers.backward();
        });
        both.print_against(&format!("{name} both"), forward_floor + backward_floor);
    }
    group.finish();

    let mut buffers = Buffers::new(SHAPES[0]);
    let mut leaves = buffers.leaves();
    let upstream = leaves[6].detach().copy();
    let operations = Timing::of(5, || loop_of_operations(&mut leaves, &upstream)).median;
    let ours = Timing::of(RUNS, || {
        buffers.forward();
        buffers.backward();
    });
    let ours = ours.median;
    println!(
        "{} forward and backward: {:.1} ms, as a loop of libtorch operations {:.0} ms, {:.1} times as fast",
        SHAPES[0].name(),
        ours.as_secs_f64() * 1e3,
        operations.as_secs_f64() * 1e3,
        operations.as_secs_f64() / ours.as_secs_f64()
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = bench
}
criterion_main!(benches);
