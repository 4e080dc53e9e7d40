//! Processes that work together, here as threads: each has its own connections, as a process has.

#![allow(clippy::unwrap_used)]

mod processes;

use std::thread;
use std::time::{Duration, Instant};

use dim_torch::distributed::{Reducer, ReducerOptions, Split, Timeouts, World};
use dim_torch::{AdamW, ParameterSpec, Parameters, TorchError};
use processes::{CONFIG, EXAMPLES, TIMEOUTS, farthest, free_port, place, start, together};
use tch::{Device, Kind, Tensor, no_grad};

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(values)
}

fn vec(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor).unwrap()
}

#[test]
fn operations_do_what_their_names_say() {
    together(3, |world| {
        let rank = world.rank() as f32;
        let sum = floats(&[rank, 10.0]);
        world.all_reduce(&sum).unwrap().wait().unwrap();
        assert_eq!(vec(&sum), [3.0, 30.0]);

        let at_root = floats(&[rank + 1.0]);
        world.reduce(&at_root, 2).unwrap().wait().unwrap();
        assert!(world.rank() != 2 || vec(&at_root) == [6.0]);

        let copied = floats(&[rank]);
        world.broadcast(&copied, 1).unwrap().wait().unwrap();
        assert_eq!(vec(&copied), [1.0]);

        // The part is a view of the whole, as the slice of a flat buffer is.
        let whole = Tensor::zeros([6], (Kind::Float, Device::Cpu));
        let part = whole.narrow(0, 2 * world.rank() as i64, 2);
        let _ = part.shallow_clone().fill_(f64::from(rank) + 1.0);
        world.all_gather(&whole, &part).unwrap().wait().unwrap();
        assert_eq!(vec(&whole), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);

        let mine = floats(&[0.0]);
        world.reduce_scatter(&mine, &floats(&[rank, 1.0, 2.0])).unwrap().wait().unwrap();
        assert_eq!(vec(&mine), [[3.0], [3.0], [6.0]][world.rank()]);

        let passed = floats(&[rank]);
        match world.rank() {
            0 => world.send(&passed, 2).unwrap().wait().unwrap(),
            2 => world.receive(&passed, 0).unwrap().wait().unwrap(),
            _ => {}
        }
        assert_eq!(vec(&passed), [[0.0], [1.0], [0.0]][world.rank()]);

        // Rank r sends s + 1 numbers to rank s, which are 10 r + s.
        let sent: Vec<f32> = (0..3).flat_map(|to| vec![10.0 * rank + to as f32; to + 1]).collect();
        let own = world.rank() as i64 + 1;
        let received = Tensor::zeros([3 * own], (Kind::Float, Device::Cpu));
        let parts = (&received, &[own; 3][..]);
        world.all_to_all(parts, (&floats(&sent), &[1, 2, 3])).unwrap().wait().unwrap();
        let from = |other: usize| vec![10.0 * other as f32 + rank; own as usize];
        assert_eq!(vec(&received), [from(0), from(1), from(2)].concat());
        let error = world.all_to_all(parts, (&floats(&sent), &[1, 2])).map(drop).unwrap_err().to_string();
        assert!(error.contains("`input`") && error.contains("3 parts"), "{error}");

        assert_eq!(world.largest(&[world.rank() as i64, -(world.rank() as i64)]).unwrap(), [2, 0]);
        assert_eq!(world.gather(&[7, world.rank() as i64]).unwrap(), [[7, 0], [7, 1], [7, 2]]);
        world.leave().unwrap();
    });
}

/// Gradients come in another order than that of the buffer from its end: of `first` last.
fn specs() -> Vec<ParameterSpec> {
    let shapes: [(&str, &[i64]); 5] =
        [("last", &[7, 30]), ("unused", &[3]), ("shared", &[7, 7]), ("scale", &[1]), ("first", &[5, 7])];
    let mut specs: Vec<_> = shapes.iter().map(|(name, shape)| ParameterSpec::new(*name, shape)).collect();
    specs[1].late = true; // behind all others in the buffer
    specs
}

/// The share of some examples in the mean loss of a step; `shared` is used twice.
fn loss(parameters: &Parameters, step: i64, first: i64, count: i64) -> Tensor {
    let get = |name| parameters.get(name).unwrap();
    let index = Tensor::arange(count * 5, (Kind::Float, Device::Cpu)) + (5 * (EXAMPLES * step + first)) as f64;
    let x = index.cos().view([count, 5]).matmul(&get("first")).tanh();
    let x = x.matmul(&get("shared")).tanh().matmul(&get("shared")) * get("scale");
    x.matmul(&get("last")).square().sum(Kind::Float) / EXAMPLES as f64
}

/// Values, moving average and gradient norms after three steps of one process, without any of this module.
fn alone() -> (Tensor, Tensor, Vec<f64>) {
    let parameters = Parameters::zeros(&specs(), Device::Cpu).unwrap();
    start(&parameters);
    let mut optimizer = AdamW::new(CONFIG, &parameters).decaying_matrices_alone(&parameters);
    let norms = (0..3).map(|step| {
        parameters.zero_gradients();
        loss(&parameters, step, 0, EXAMPLES).backward();
        optimizer.step(&parameters, 0.05).unwrap().double_value(&[])
    });
    let norms = norms.collect();
    (parameters.values().copy(), optimizer.ema.shallow_clone(), norms)
}

/// The same of `world`, with two backward passes a step.
fn divided(world: World, options: ReducerOptions) -> (Tensor, Tensor, Vec<f64>) {
    let (rank, size) = (world.rank(), world.size());
    let parts = if options.split == Split::None { 1 } else { size };
    let flat = options.split != Split::Gradients;
    let parameters = Parameters::zeros_in_parts(&specs(), Device::Cpu, parts, flat).unwrap().with_bf16_copy();
    start(&parameters);
    let copied = parameters.weight("last").unwrap();
    let _ = copied.computed(Kind::BFloat16).unwrap();
    let whole = parameters.padded_values().copy();
    let length = whole.size()[0] / parts as i64;
    let own = if parts == 1 { 0 } else { rank as i64 * length };
    // Slices end within runs of what decays.
    let mut optimizer =
        AdamW::of_slice(CONFIG, &whole.narrow(0, own, length), own).decaying_matrices_alone(&parameters);
    let reducer = Reducer::new(&world, &parameters, options).unwrap();
    let count = EXAMPLES / size as i64;
    let half = count / 2;
    let norms = (0..3).map(|step| {
        reducer.zero().unwrap();
        let first = rank as i64 * count;
        reducer.backward(&loss(&parameters, step, first, half), half == count).unwrap();
        reducer.backward(&loss(&parameters, step, first + half, count - half), true).unwrap();
        let norm = match options.split {
            Split::None => optimizer.step(&parameters, 0.05),
            _ => optimizer.step_slice(&world, &parameters, &reducer.gradients().unwrap(), 0.05, || reducer.zero()),
        };
        // Also where the new values came from other processes.
        let (copy, expected) = (copied.computed(Kind::BFloat16).unwrap(), copied.leaf().to_kind(Kind::BFloat16));
        assert!(copy.equal(&expected), "the copy in bf16 is stale after step {step}");
        norm.unwrap().double_value(&[])
    });
    let norms = norms.collect();
    let ema = whole;
    if parts == 1 {
        no_grad(|| ema.shallow_clone().narrow(0, 0, optimizer.ema.size()[0]).copy_(&optimizer.ema));
    } else {
        world.all_gather(&ema, &optimizer.ema).unwrap().wait().unwrap();
    }
    world.leave().unwrap();
    (parameters.values().copy(), ema, norms)
}

#[test]
fn any_number_of_processes_and_any_split_take_the_steps_of_one() {
    let (values, ema, norms) = alone();
    for split in [Split::None, Split::Optimizer, Split::Gradients] {
        for (size, bucket_bytes) in [(1, 1 << 20), (2, 1000), (3, 256), (4, 1 << 20)] {
            let options = ReducerOptions { bucket_bytes, bf16: false, split };
            let results = together(size, |world| divided(world, options));
            for (theirs, their_ema, their_norms) in &results {
                let apart = (farthest(&values, theirs), farthest(&ema, their_ema));
                assert!(apart.0 < 2e-6 && apart.1 < 2e-6, "{split:?} {size}: {apart:?}");
                for (norm, theirs) in norms.iter().zip(their_norms) {
                    assert!((norm - theirs).abs() < 1e-5 * norm, "{split:?} {size}: {norm} {theirs}");
                }
                assert!(theirs.equal(&results[0].0), "{split:?} {size}: ranks differ");
            }
        }
    }
}

#[test]
fn gradients_in_bf16_are_right_to_its_rounding() {
    // Both shares are rounded, and their sum is: each by at most 2^-9.
    let tolerance = 3.0 * 2_f64.powi(-9);
    let (_, _, norms) = alone();
    for split in [Split::None, Split::Gradients] {
        let options = ReducerOptions { bucket_bytes: 300, bf16: true, split };
        for (_, _, theirs) in together(2, |world| divided(world, options)) {
            assert!((norms[0] - theirs[0]).abs() < tolerance * norms[0], "{norms:?} {theirs:?}");
            assert_ne!(norms[0], theirs[0], "nothing was rounded");
        }
    }
}

#[test]
fn nobody_at_the_address_is_told_in_time() {
    let begun = Instant::now();
    let timeouts = Timeouts { start: Duration::from_secs(1), ..TIMEOUTS };
    let error = World::join(&place(1, 2, free_port()), Device::Cpu, "", timeouts).err().unwrap().to_string();
    assert!(
        error.contains("rank 1 of 2 on host1, at 127.0.0.1:") && error.contains("nobody answers there within 1 s"),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// The errors of processes that cannot start together.
fn refusals(seats: &[(usize, usize, &'static str)], seconds: u64) -> Vec<String> {
    let port = free_port();
    let timeouts = Timeouts { start: Duration::from_secs(seconds), ..TIMEOUTS };
    thread::scope(|scope| {
        let start = |&(rank, size, identity): &(usize, usize, &'static str)| {
            scope.spawn(move || World::join(&place(rank, size, port), Device::Cpu, identity, timeouts).err())
        };
        let threads: Vec<_> = seats.iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap().to_string()).collect()
    })
}

#[test]
fn processes_that_never_come_are_named() {
    for error in refusals(&[(0, 4, "version 1"), (2, 4, "version 1")], 1) {
        assert!(error.contains("after 1 s rank 1 and rank 3 had not come"), "{error}");
    }
}

#[test]
fn another_program_or_number_of_processes_is_told_on_both_sides() {
    let errors = refusals(&[(0, 2, "version 1"), (1, 2, "version 2")], 10);
    assert!(errors[0].contains("rank 1 (host1) has `version 2`, rank 0 `version 1`"), "{}", errors[0]);
    assert!(errors[1].contains("rank 0 (host0) has `version 1`, rank 1 `version 2`"), "{}", errors[1]);

    let errors = refusals(&[(0, 2, "version 1"), (1, 4, "version 1")], 10);
    assert!(errors[0].contains("rank 1 (host1) has `processes 4`, rank 0 `processes 2`"), "{}", errors[0]);
    assert!(errors[1].contains("rank 0 (host0) has `processes 2`, rank 1 `processes 4`"), "{}", errors[1]);
}

#[test]
fn a_rank_outside_the_run_is_refused() {
    let error = World::join(&place(2, 2, 1), Device::Cpu, "", TIMEOUTS).err().unwrap().to_string();
    assert!(error.contains("its rank must be below the number of processes, 2"), "{error}");
}

#[test]
fn a_process_that_is_gone_is_named_with_its_machine() {
    let port = free_port();
    let timeouts = Timeouts { operation: Duration::from_secs(1), ..TIMEOUTS };
    let errors: Vec<Option<TorchError>> = thread::scope(|scope| {
        let start = |rank| {
            scope.spawn(move || {
                let world = World::join(&place(rank, 3, port), Device::Cpu, "", timeouts).unwrap();
                if rank == 1 {
                    return None; // its heart stops with it
                }
                let error = world.barrier().err();
                // The store must not end before the other has asked it.
                thread::sleep(Duration::from_secs(1));
                error
            })
        };
        let threads: Vec<_> = (0..3).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for rank in [0, 2] {
        let error = errors[rank].as_ref().unwrap().to_string();
        let expected = format!("all_reduce failed on rank {rank} (host{rank}): lost rank 1 (host1)");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_part_of_the_processes_works_by_itself() {
    together(4, |world| {
        let pair = world.part(2).unwrap();
        assert_eq!((pair.rank(), pair.size()), (world.rank() % 2, 2));
        let sum = floats(&[world.rank() as f32]);
        pair.all_reduce(&sum).unwrap().wait().unwrap();
        assert_eq!(vec(&sum), [if world.rank() < 2 { 1.0 } else { 5.0 }]);
        assert_eq!(world.part(4).unwrap().size(), 4);
        let refused = world.part(3).map(drop).unwrap_err().to_string();
        assert!(refused.contains("a divisor of the number of processes, 4") && refused.contains('3'), "{refused}");
        world.leave().unwrap();
        assert!(pair.all_reduce(&sum).is_err(), "left with all");
    });
}

#[test]
fn sharded_parameters_have_memory_only_while_they_are_held() {
    let specs = [
        ParameterSpec::new("first", &[70]),
        ParameterSpec::new("block.0.weight", &[100, 3]),
        ParameterSpec::new("block.0.join.weight", &[65]),
        ParameterSpec::new("block.0.bias", &[3]),
        ParameterSpec::new("block.1.table", &[10]).with_late_gradient(),
        ParameterSpec::new("block.1.weight", &[200]),
    ];
    let units = ["block.0.", "block.0.join.", "block.1."].map(str::to_owned);
    let fill = |values: &Tensor, start: i64| {
        let numbers = Tensor::arange_start(start, start + values.size()[0], (Kind::Float, Device::Cpu));
        no_grad(|| values.shallow_clone().copy_(&numbers));
    };
    let whole = Parameters::zeros(&specs, Device::Cpu).unwrap();
    fill(&whole.values(), 0);
    let expected: Vec<Vec<f32>> = whole.iter().map(|(_, value)| vec(&value.flatten(0, -1))).collect();
    for size in [1, 3] {
        together(size, |world| {
            let parameters = Parameters::sharded(&specs, Device::Cpu, &world, &units).unwrap();
            let length = parameters.padded_length() / size as i64;
            let own = parameters.part(length * world.rank() as i64, length).unwrap();
            fill(&own, length * world.rank() as i64);
            parameters.share_parts(&world, &own).unwrap();
            let there = |name: &str| {
                let place = specs.iter().position(|spec| spec.name == name).unwrap();
                vec(&parameters.get(name).unwrap().flatten(0, -1)) == expected[place]
            };
            // The slice, `first` and the table, in rows of 64.
            let resting = 4 * (length + 128 + 64);
            assert!(there("first") && there("block.1.table"));
            assert_eq!(parameters.resident_bytes().unwrap(), resting);
            for (unit, names, elements) in [
                ("block.0.", &["block.0.weight", "block.0.bias"][..], 320 + 64),
                ("block.0.join.", &["block.0.join.weight"], 128),
                ("block.1.", &["block.1.weight"], 256),
            ] {
                let unit = parameters.unit(unit).unwrap();
                let held = (unit.hold().unwrap(), unit.hold().unwrap());
                assert!(names.iter().all(|name| there(name)));
                drop(held.0);
                assert!(names.iter().all(|name| there(name)), "still held");
                assert_eq!(parameters.resident_bytes().unwrap(), resting + 4 * elements);
                drop(held.1);
                assert_eq!(parameters.resident_bytes().unwrap(), resting);
            }
            assert!(parameters.unit("block.2.").is_none());
            world.leave().unwrap();
        });
    }
}
