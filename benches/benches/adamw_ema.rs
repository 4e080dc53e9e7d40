//! The CPU optimiser beside its floor: each number read once and each result written once, at the speed of a copy.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::num::NonZeroU64;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dim_bench::{Numbers, Timing, copy_bytes_per_s};
use dim_kernels::{
    Queue, TensorView, TensorViewMut,
    adamw_ema::{self, AdamWEma, AdamWEmaState, Clip, Constants},
};

/// Parameters: what the smoke test trains, and more than the caches hold.
const LENGTHS: [usize; 2] = [5_000_000, 40_000_000];

const CONSTANTS: Constants = Constants {
    lr: 1e-4,
    beta1: 0.99,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.03,
    ema_decay: 0.9999,
    gradient_scale: 1.0,
    step: NonZeroU64::MIN,
};

struct Buffers {
    gradients: Numbers,
    parameters: Numbers,
    first_moment: Numbers,
    second_moment: Numbers,
    ema: Numbers,
    norm: Numbers,
}

impl Buffers {
    fn new(length: usize) -> Self {
        Self {
            gradients: Numbers::random(length, 1),
            parameters: Numbers::random(length, 2),
            first_moment: Numbers::zeros(length),
            second_moment: Numbers::zeros(length),
            ema: Numbers::random(length, 2),
            norm: Numbers::zeros(1),
        }
    }

    fn norm(&mut self) {
        let gradients = TensorView::from_slice(&self.gradients, &[self.gradients.len()]).unwrap();
        let norm = TensorViewMut::from_slice(&mut self.norm, &[1]).unwrap();
        adamw_ema::gradient_norm(&Queue::Cpu, &gradients, 1.0, norm).unwrap();
    }

    fn step(&mut self) {
        let shape = [self.gradients.len()];
        let norm = TensorView::from_slice(&self.norm, &[1]).unwrap();
        let inputs = AdamWEma {
            gradients: TensorView::from_slice(&self.gradients, &shape).unwrap(),
            clip: Some(Clip { norm, max_norm: 1.0 }),
            schedule: None,
            constants: CONSTANTS,
        };
        let state = AdamWEmaState {
            parameters: TensorViewMut::from_slice(&mut self.parameters, &shape).unwrap(),
            first_moment: TensorViewMut::from_slice(&mut self.first_moment, &shape).unwrap(),
            second_moment: TensorViewMut::from_slice(&mut self.second_moment, &shape).unwrap(),
            ema: TensorViewMut::from_slice(&mut self.ema, &shape).unwrap(),
            bf16_copy: None,
        };
        adamw_ema::step(&Queue::Cpu, &inputs, state).unwrap();
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("adamw_ema/cpu");
    for length in LENGTHS {
        let mut buffers = Buffers::new(length);
        let ceiling = copy_bytes_per_s(length);
        println!("copy of {length} numbers: {:.1} GB/s, read and written bytes", ceiling / 1e9);
        // The norm reads the gradients; the step reads five buffers and writes four of them.
        let parts: [(_, fn(&mut Buffers), _); 2] = [("norm", Buffers::norm, 1.0), ("step", Buffers::step, 9.0)];
        for (part, run, buffers_moved) in parts {
            group.bench_function(BenchmarkId::new(part, length), |bencher| bencher.iter(|| run(&mut buffers)));
            let floor = Duration::from_secs_f64(buffers_moved * (4 * length) as f64 / ceiling);
            Timing::of(31, || run(&mut buffers)).print_against(&format!("{length} {part}"), floor);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));
    targets = bench
}
criterion_main!(benches);
