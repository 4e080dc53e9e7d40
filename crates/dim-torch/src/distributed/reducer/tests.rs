//! When buckets leave, which no result of theirs shows.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::time::Duration;

use tch::Device;

use super::*;
use crate::ParameterSpec;
use crate::distributed::{Place, Timeouts};

/// A process that is alone.
fn world() -> World {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = "127.0.0.1".to_owned();
    let host = "here".to_owned();
    let place = Place { rank: 0, size: 1, local_rank: 0, address, port, launcher_holds_store: false, attempt: 0, host };
    let timeout = Duration::from_secs(20);
    World::join(&place, Device::Cpu, "", Timeouts { start: timeout, operation: timeout }).unwrap()
}

#[test]
fn a_layer_leaves_with_the_first_gradient_of_the_next() {
    let names = ["blocks.0.norm", "blocks.0.weight", "blocks.1.norm", "blocks.1.weight", "blocks.2.weight"];
    let specs = names.map(|name| ParameterSpec::new(name, &[64]));
    let parameters = Parameters::zeros(&specs, Device::Cpu).unwrap();
    let options = ReducerOptions { bucket_bytes: 150 * size_of::<f32>(), bf16: false, split: Split::None };
    let world = world();
    let reducer = Reducer::new(&world, &parameters, options).unwrap();
    let mut state = lock(&reducer.shared);
    assert_eq!(state.plan.buckets.iter().map(|bucket| bucket.start).collect::<Vec<_>>(), [256, 128, 0]);
    // Of a backward pass, after each gradient: how many buckets have left.
    let mut pass = |last: bool| {
        state.begin(last);
        let left = [4, 3, 2, 1, 0].map(|parameter| {
            state.arrived(parameter).unwrap();
            (0..3).filter(|&bucket| state.departures.has_left(bucket)).count()
        });
        state.finish().unwrap();
        (left, (0..3).filter(|&bucket| state.departures.has_left(bucket)).count())
    };
    assert_eq!(pass(true), ([0; 5], 3), "the first pass only learns the order");
    assert_eq!(pass(true), ([0, 1, 1, 2, 2], 3));
    assert_eq!(pass(false), ([0; 5], 0), "more passes of this step come");
    drop(state);
    drop(reducer);
    world.leave().unwrap();
}
