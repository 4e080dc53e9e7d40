//! Residual, RMS norm and modulation on the CPU beside their floor: each input read once and each output written once, at
//! the speed of a copy. Libtorch's operations for the same are timed beside them.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dim_bench::{Numbers, Timing, copy_bytes_per_s};
use dim_kernels::{
    Queue, TensorView, TensorViewMut,
    norm_modulate::{self, Branch, Kept, Norm, NormModulate, NormModulateGradients, NormModulateOutputs},
};
use tch::{Device, Kind, Tensor};

/// Batch, tokens and channels: DiM-S's, and more than the caches hold.
const SHAPES: [[usize; 3]; 2] = [[4, 366, 512], [32, 366, 512]];

struct Buffers {
    shape: [usize; 3],
    x: Numbers,
    y: Numbers,
    grad_out: Numbers,
    /// Gate, scale and shift, `[3, batch, channel]`.
    modulation: Numbers,
    weight: Numbers,
    r: Numbers,
    out: Numbers,
    /// `[batch, token, 2]`.
    statistics: Numbers,
    grad_modulation: Numbers,
    grad_weight: Numbers,
}

impl Buffers {
    fn new(shape: [usize; 3]) -> Self {
        let [batch, token, channel] = shape;
        let size = shape.iter().product();
        Self {
            shape,
            x: Numbers::random(size, 1),
            y: Numbers::random(size, 2),
            grad_out: Numbers::random(size, 3),
            modulation: Numbers::random(3 * batch * channel, 4),
            weight: Numbers::random(channel, 5),
            r: Numbers::zeros(size),
            out: Numbers::zeros(size),
            statistics: Numbers::random(batch * token * 2, 5),
            grad_modulation: Numbers::zeros(3 * batch * channel),
            grad_weight: Numbers::zeros(channel),
        }
    }

    fn run(&mut self, backward: bool) {
        let [batch, token, channel] = self.shape;
        let (row, of_token) = ([batch, channel], [batch, token, 2]);
        let mut modulation =
            self.modulation.chunks_exact(batch * channel).map(|values| TensorView::from_slice(values, &row).unwrap());
        let y = TensorView::from_slice(&self.y, &self.shape).unwrap();
        let op = NormModulate {
            branch: Some(Branch { y, gate: modulation.next(), gate_offset: 1.0 }),
            norm: Norm::Rms { eps: 1e-5 },
            weight: Some(TensorView::from_slice(&self.weight, &[channel]).unwrap()),
            bias: None,
            scale: modulation.next(),
            shift: modulation.next(),
        };
        let x = TensorView::from_slice(&self.x, &self.shape).unwrap();
        let r = TensorViewMut::from_slice(&mut self.r, &self.shape).unwrap();
        let out = TensorViewMut::from_slice(&mut self.out, &self.shape).unwrap();
        if backward {
            let mut rows = self
                .grad_modulation
                .chunks_exact_mut(batch * channel)
                .map(|values| TensorViewMut::from_slice(values, &row).unwrap());
            let gradients = NormModulateGradients {
                x: Some(r),
                y: Some(out),
                gate: rows.next(),
                weight: Some(TensorViewMut::from_slice(&mut self.grad_weight, &[channel]).unwrap()),
                bias: None,
                scale: rows.next(),
                shift: rows.next(),
            };
            let grad_out = TensorView::from_slice(&self.grad_out, &self.shape).unwrap();
            let statistics = Some(TensorView::from_slice(&self.statistics, &of_token).unwrap());
            norm_modulate::backward(&Queue::Cpu, &op, &Kept { r: x, statistics }, Some(&grad_out), Some(&y), gradients)
                .unwrap();
        } else {
            let statistics = Some(TensorViewMut::from_slice(&mut self.statistics, &of_token).unwrap());
            norm_modulate::forward(
                &Queue::Cpu,
                &op,
                &x,
                NormModulateOutputs { r: Some(r), out: Some(out), statistics },
            )
            .unwrap();
        }
    }
}

/// Libtorch's operations on tensors of this shape: forward, and backward if asked for.
fn libtorch(shape: [usize; 3], backward: bool) -> impl FnMut() {
    let [batch, token, channel] = shape.map(|size| i64::try_from(size).unwrap());
    let leaf = |shape: &[i64]| Tensor::rand(shape, (Kind::Float, Device::Cpu)).set_requires_grad(backward);
    let (x, y) = (leaf(&[batch, token, channel]), leaf(&[batch, token, channel]));
    let [gate, scale, shift] = std::array::from_fn(|_| leaf(&[batch, 1, channel]));
    let weight = leaf(&[channel]);
    move || {
        let r = &x + (&gate + 1.0) * &y;
        let out = r.rms_norm([channel], Some(&weight), 1e-5) * (&scale + 1.0) + &shift;
        if backward {
            (r.sum(Kind::Float) + out.sum(Kind::Float)).backward();
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("norm_modulate/cpu");
    for shape in SHAPES {
        let mut buffers = Buffers::new(shape);
        let ceiling = copy_bytes_per_s(shape.iter().product());
        println!("copy of a tensor: {:.1} GB/s, read and written bytes", ceiling / 1e9);
        let name = format!("{}x{}x{}", shape[0], shape[1], shape[2]);
        let bytes = (4 * shape.iter().product::<usize>()) as f64;
        // Forward reads x and y and writes r and the output; backward reads r, y and two gradients, and writes two.
        for (direction, backward, tensors) in [("forward", false, 4.0), ("backward", true, 6.0)] {
            group.bench_function(BenchmarkId::new(direction, &name), |bencher| bencher.iter(|| buffers.run(backward)));
            let floor = Duration::from_secs_f64(tensors * bytes / ceiling);
            Timing::of(101, || buffers.run(backward)).print_against(&format!("{name} {direction}"), floor);
        }
        for (direction, backward) in [("forward", false), ("forward and backward", true)] {
            let libtorch = Timing::of(31, libtorch(shape, backward));
            println!("{name} {direction} as operations of libtorch: {:.3} ms", libtorch.median.as_secs_f64() * 1e3);
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
