//! Processes that each step a slice of the parameters, of which a network in bf16 then needs the others', on the CPU.
#![allow(clippy::unwrap_used)]

mod processes;

use dim_torch::distributed::Split;
use processes::{assert_same_steps, in_bf16, together};
use tch::Device;

#[test]
fn slices_stepped_alone_reach_a_network_in_bf16() {
    for (size, split) in [(2, Split::Optimizer), (2, Split::Gradients), (3, Split::Optimizer), (4, Split::Gradients)] {
        let whole = &together(size, |world| in_bf16(world, Device::Cpu, Split::None))[0];
        for slices in together(size, |world| in_bf16(world, Device::Cpu, split)) {
            assert_same_steps(whole, &slices, size, split);
        }
    }
}
