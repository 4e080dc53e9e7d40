//! Processes that each step a slice of the parameters, of which a network in bf16 then needs the others', on all GPUs of this machine by NCCL, or on one alone.
#![allow(clippy::unwrap_used)]

mod gpu;
mod processes;

use std::env;
use std::process::Command;

use dim_torch::distributed::{Split, World};
use gpu::gpu;
use processes::{TIMEOUTS, assert_same_steps, free_port, in_bf16, place};
use tch::Device;

const TEST: &str = "slices_stepped_alone_reach_a_network_in_bf16";
/// Rank, number of processes and a port for each run, of a process that the test has started.
const ROLE: &str = "DIM_TEST_ROLE";

#[test]
fn slices_stepped_alone_reach_a_network_in_bf16() {
    let Some(_gpu) = gpu(TEST) else { return };
    if let Ok(role) = env::var(ROLE) {
        let numbers: Vec<usize> = role.split(' ').map(|number| number.parse().unwrap()).collect();
        return one_of(numbers[0], numbers[1], &numbers[2..]);
    }
    let size = usize::try_from(tch::Cuda::device_count()).unwrap().clamp(1, 4); // the examples divide by these
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string()).join(" ");
    let start = |rank: usize| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", TEST, "--nocapture"]).env(ROLE, format!("{rank} {size} {ports}"));
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..size).map(start).collect();
    for (rank, mut child) in children.into_iter().enumerate() {
        assert!(child.wait().unwrap().success(), "rank {rank} of {size}");
    }
}

/// What each process does: as the others with nothing split, and with slices.
fn one_of(rank: usize, size: usize, ports: &[usize]) {
    let device = Device::Cuda(rank);
    let run = |port: usize, split| {
        let place = place(rank, size, u16::try_from(port).unwrap());
        in_bf16(World::join(&place, device, "same", TIMEOUTS).unwrap(), device, split)
    };
    let whole = run(ports[0], Split::None);
    for (port, split) in [(ports[1], Split::Optimizer), (ports[2], Split::Gradients)] {
        assert_same_steps(&whole, &run(port, split), size, split);
    }
}
