//! Threads as processes, each with connections of its own.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use dim_torch::Parameters;
use dim_torch::distributed::{Place, Timeouts};
use tch::no_grad;

use super::*;
use crate::{Backbone, BackboneConfig, DitConfig, LongSkip, Padding, Precision, Recompute, SkipTuning};

/// Runs `work` as each of `size` processes; its results by rank.
fn together<T: Send>(size: usize, work: impl Fn(&World) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let patience = Duration::from_secs(30);
    thread::scope(|scope| {
        let start = |rank| {
            let work = &work;
            scope.spawn(move || {
                tch::set_num_threads(1);
                let (address, host) = ("127.0.0.1".to_owned(), format!("host{rank}"));
                let (launcher_holds_store, attempt) = (false, 0);
                let place = Place { rank, size, local_rank: rank, address, port, launcher_holds_store, attempt, host };
                let timeouts = Timeouts { start: patience, operation: patience };
                let world = World::join(&place, Device::Cpu, "same", timeouts).unwrap();
                let result = work(&world);
                world.leave().unwrap();
                result
            })
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A network none of whose parameters leaves anything out: fresh positions, for one, are all zero.
fn network(config: &DimConfig) -> Dim {
    network_over(config, Parameters::frozen(&config.parameter_specs(), Device::Cpu).unwrap())
}

fn network_over(config: &DimConfig, parameters: Parameters) -> Dim {
    let network = Dim::new(config.clone(), parameters).unwrap();
    network.initialise(5).unwrap();
    for (index, (_, parameter)) in network.parameters().iter().enumerate() {
        let wave = (Tensor::arange(parameter.numel() as i64, (Kind::Float, Device::Cpu)) * 1.3 + index as f64).sin();
        let _ = no_grad(|| parameter.shallow_clone().f_add_(&(wave * 0.03).view_as(parameter))).unwrap();
    }
    network
}

struct Input {
    x: Tensor,
    t: Tensor,
    class: Tensor,
}

fn input(config: &DimConfig, rows: i64, columns: i64) -> Input {
    let size = [2, size(config.in_channels), rows * 2, columns * 2];
    let x = (Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 0.37).sin().view(size);
    Input { x, t: Tensor::from_slice(&[30_f32, 800.0]), class: Tensor::from_slice(&[0_i64, 3]) }
}

fn predicted(network: &Dim, input: &Input, options: ForwardOptions) -> Tensor {
    no_grad(|| network.forward_with(&input.x, &input.t, Some(&input.class), options)).unwrap()
}

/// The largest difference, over the largest value.
fn apart(one: &Tensor, other: &Tensor) -> f64 {
    ((one - other).abs().max() / one.abs().max()).double_value(&[])
}

/// A network without what may be left out.
fn bare(whole: &DimConfig) -> DimConfig {
    DimConfig {
        padding: Padding::None,
        long_skip: Some(LongSkip::None),
        local_convolution: false,
        d_conv: 1,
        ..whole.clone()
    }
}

#[test]
fn any_number_of_processes_predicts_what_one_does() {
    // Nine blocks turn from rows to columns and back twice; thirteen rows and eleven columns of patches divide by nothing.
    let whole = DimConfig { depth: 9, ..DimConfig::tiny() };
    let tuned = ForwardOptions { skip_tuning: Some(SkipTuning { top: 0.8, bottom: 1.1 }) };
    let wide = DimConfig { padding: Padding::Rho, long_skip: Some(LongSkip::TwoLinears), ..whole.clone() };
    let bare = bare(&whole);
    let by_rows = DimConfig { scan_directions: 2, d_conv: 4, ..whole.clone() };
    for (config, options, sizes) in [
        (&whole, ForwardOptions::default(), &[2, 3, 4][..]),
        (&wide, tuned, &[3]),
        (&bare, ForwardOptions::default(), &[4]),
        (&by_rows, ForwardOptions::default(), &[2]),
    ] {
        let input = || input(config, 13, 11);
        let alone = predicted(&network(config), &input(), options);
        for &size in sizes {
            let results = together(size, |world| {
                let mut network = network(config);
                network.split_sequence(world).unwrap();
                predicted(&network, &input(), options)
            });
            for (rank, result) in results.iter().enumerate() {
                let apart = apart(&alone, result);
                assert!(apart < 1e-5, "{config:?}, {size} processes, rank {rank}: {apart:.2e}");
                assert_eq!(result, &results[0], "all processes go on from the same numbers");
            }
        }
    }
}

#[test]
fn strips_cover_the_grid_and_every_process_has_a_part_of_the_image() {
    for (rows, columns, padding) in [(13, 11, Padding::Lateral), (40, 17, Padding::Rho), (29, 31, Padding::None)] {
        let config = DimConfig { padding, ..DimConfig::tiny() };
        for size in 1..=4 {
            let plan = |rank| Plan::new(Grid { rows, columns }, &config, (rank, size), Device::Cpu).unwrap();
            let plans: Vec<Plan> = (0..size).map(plan).collect();
            let of_image: Vec<usize> = (0..size).flat_map(|rank| plans[0].strips.rows_of_image(rank)).collect();
            assert_eq!(of_image, (0..rows).collect::<Vec<_>>());
            assert!((0..size).all(|rank| !plans[0].strips.rows_of_image(rank).is_empty()));
            let below: Vec<usize> = plans.iter().flat_map(|plan| plan.strips.rows_below()).collect();
            assert_eq!(below, (0..padding.width()).collect::<Vec<_>>());
            for axis in [Axis::Rows, Axis::Columns] {
                let cells: usize = plans.iter().map(|plan| plan.strips.strip(axis).patches()).sum();
                assert_eq!(cells, plans[0].strips.padded.patches());
            }
        }
    }
}

#[test]
fn what_cannot_be_split_is_refused() {
    let config = DimConfig::tiny();
    let small = Plan::new(Grid::square(4), &config, (0, 3), Device::Cpu).map(drop).unwrap_err().to_string();
    assert!(small.contains("split over 3 processes") && small.contains("4 x 4 patches"), "{small}");

    let dit = DitConfig::tiny();
    let refused = dit.check_split(64, 64, 2).unwrap_err().to_string();
    assert!(refused.contains("is for DiM"), "{refused}");
    let errors = together(1, |world| {
        let parameters = Parameters::frozen(&dit.parameter_specs(), Device::Cpu).unwrap();
        dit.build(parameters, Precision::F32).unwrap().split_sequence(world).unwrap_err().to_string()
    });
    assert!(errors[0].contains("is for DiM"), "{errors:?}");
}

/// Every parameter's gradient of a loss of the whole prediction, and that of the image.
fn gradients(config: &DimConfig, recompute: Recompute, world: Option<&World>) -> Vec<Tensor> {
    let mut network = network_over(config, Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap());
    network.set_recompute(recompute);
    if let Some(world) = world {
        network.split_sequence(world).unwrap();
    }
    let Input { x, t, class } = input(config, 13, 11);
    let x = x.set_requires_grad(true);
    let predicted = network.forward(&x, &t, Some(&class)).unwrap();
    let wave = (Tensor::arange(predicted.numel() as i64, (Kind::Float, Device::Cpu)) * 0.71).cos().view_as(&predicted);
    (predicted.square() * wave).sum(Kind::Float).backward();
    let gradients: Vec<Tensor> =
        network.parameters().iter().map(|(_, leaf)| leaf).chain([&x]).map(Tensor::grad).collect();
    if let Some(world) = world {
        gradients.iter().for_each(|gradient| world.all_reduce(gradient).unwrap().wait().unwrap());
    }
    gradients
}

#[test]
fn any_number_of_processes_has_the_gradients_of_one() {
    let whole = DimConfig { depth: 9, ..DimConfig::tiny() };
    let wide = DimConfig { padding: Padding::Rho, long_skip: Some(LongSkip::TwoLinears), d_conv: 4, ..whole.clone() };
    let bare = bare(&whole);
    let again = Recompute { blocks: 4, scan: true };
    for (config, recompute, sizes) in [
        (&whole, Recompute::default(), &[1, 2, 3, 4][..]),
        (&wide, again, &[3]),
        (&bare, Recompute { blocks: 0, scan: true }, &[4]),
    ] {
        let alone = gradients(config, recompute, None);
        let names = config.parameter_specs().into_iter().map(|spec| spec.name).chain(["x".to_owned()]);
        let names: Vec<String> = names.collect();
        for &size in sizes {
            let results = together(size, |world| gradients(config, recompute, Some(world)));
            for ((name, one), split) in names.iter().zip(&alone).zip(&results[0]) {
                assert!(one.abs().max().double_value(&[]) > 0.0, "{name} has no gradient");
                let apart = apart(one, split);
                assert!(apart < 1e-5, "{size} processes, {name}: {apart:.2e}");
            }
        }
    }
}
