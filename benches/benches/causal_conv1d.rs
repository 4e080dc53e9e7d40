//! The CPU convolution beside its floor: each input read once and each output written once, at the speed of a copy.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dim_bench::{Numbers, Timing, copy_bytes_per_s};
use dim_kernels::{
    Queue, TensorView, TensorViewMut,
    causal_conv1d::{self, CausalConv1d, CausalConv1dGradients},
};

const WIDTH: usize = 3;

/// Batch, tokens and channels: DiM-S's, and more than the caches hold.
const SHAPES: [[usize; 3]; 2] = [[4, 366, 1024], [32, 366, 1024]];

struct Buffers {
    shape: [usize; 3],
    x: Numbers,
    weight: Numbers,
    bias: Numbers,
    out: Numbers,
    grad_weight: Numbers,
    grad_bias: Numbers,
}

impl Buffers {
    fn new(shape: [usize; 3]) -> Self {
        let (size, channel) = (shape.iter().product(), shape[2]);
        Self {
            shape,
            x: Numbers::random(size, 1),
            weight: Numbers::random(channel * WIDTH, 2),
            bias: Numbers::random(channel, 3),
            out: Numbers::zeros(size),
            grad_weight: Numbers::zeros(channel * WIDTH),
            grad_bias: Numbers::zeros(channel),
        }
    }

    fn run(&mut self, backward: bool) {
        let channel = self.shape[2];
        let convolution = CausalConv1d {
            x: TensorView::from_slice(&self.x, &self.shape).unwrap(),
            weight: TensorView::from_slice(&self.weight, &[channel, WIDTH]).unwrap(),
            bias: Some(TensorView::from_slice(&self.bias, &[channel]).unwrap()),
            silu: true,
            token_map: None,
        };
        let out = TensorViewMut::from_slice(&mut self.out, &self.shape).unwrap();
        if backward {
            let gradients = CausalConv1dGradients {
                x: out,
                weight: TensorViewMut::from_slice(&mut self.grad_weight, &[channel, WIDTH]).unwrap(),
                bias: Some(TensorViewMut::from_slice(&mut self.grad_bias, &[channel]).unwrap()),
            };
            causal_conv1d::backward(&Queue::Cpu, &convolution, &convolution.x, gradients).unwrap();
        } else {
            causal_conv1d::forward(&Queue::Cpu, &convolution, out).unwrap();
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("causal_conv1d/cpu");
    for shape in SHAPES {
        let mut buffers = Buffers::new(shape);
        let ceiling = copy_bytes_per_s(shape.iter().product());
        println!("copy of a tensor: {:.1} GB/s, read and written bytes", ceiling / 1e9);
        let name = format!("{}x{}x{}w{WIDTH}", shape[0], shape[1], shape[2]);
        let bytes = (4 * shape.iter().product::<usize>()) as f64;
        // Forward reads x and writes the output; backward reads x and the gradient, and writes one.
        for (direction, backward, tensors) in [("forward", false, 2.0), ("backward", true, 3.0)] {
            group.bench_function(BenchmarkId::new(direction, &name), |bencher| bencher.iter(|| buffers.run(backward)));
            let floor = Duration::from_secs_f64(tensors * bytes / ceiling);
            Timing::of(101, || buffers.run(backward)).print_against(&format!("{name} {direction}"), floor);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));
    targets = bench
}
criterion_main!(benches);
