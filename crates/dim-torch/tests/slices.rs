//! Processes that each step a slice of the parameters, of which a network in bf16 then needs the others', on the CPU.
#![allow(clippy::unwrap_used)]

mod processes;

use dim_torch::distributed::Split;
use processes::{farthest, in_bf16, together};
use tch::Device;

#[test]
fn slices_stepped_alone_reach_a_network_in_bf16() {
    for (size, split) in [(2, Split::Optimizer), (2, Split::Gradients), (3, Split::Optimizer), (4, Split::Gradients)] {
        let (values, copies) = &together(size, |world| in_bf16(world, Device::Cpu, Split::None))[0];
        for (theirs, their_copies) in together(size, |world| in_bf16(world, Device::Cpu, split)) {
            // Sums of two are the same in any order, but for that of the norm; those of more differ, and so may what is rounded to bf16.
            let tolerance = if size == 2 { 1e-6 } else { 1e-3 };
            let apart = (farthest(values, &theirs), farthest(copies, &their_copies));
            assert!(apart.0 <= tolerance && apart.1 <= 4e-3, "{split:?} {size}: {apart:?}");
        }
    }
}
