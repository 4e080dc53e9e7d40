//! One image's tokens over several processes, where one GPU takes too long or has too little memory; also in training.
//!
//! Every process has a strip of whole rows of the padded grid, or, where a block scans by columns, of whole columns, and beside it the
//! prefix, which all compute alike. Within a block only the edges of the convolution and the state of the scan travel
//! ([`mamba_of_strip`](dim_torch::ops::mamba_of_strip)); between a block that scans by rows and one that scans by columns the stream itself does. A long skip
//! needs no journey of its own: where it is joined the decoder's stream is split as the encoder's was that left it, since the two mirror each other.

mod exchange;
pub(super) mod plan;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use dim_torch::{TorchError, distributed::World};
use tch::{Device, Kind, Tensor};

use super::config::DimConfig;
use super::embedding::{Condition, TimeFeatures};
use super::mamba::Mamba;
use super::{Dim, ForwardOptions, with_local_conv};
use crate::ModelError;
use crate::grid::{Grid, check_times, grid_of_input, labels, size};
use crate::layers::{Stream, unpatchify};
use crate::observer::Observer;
use exchange::cells_of;
use plan::{Axis, Plan, Strips};

/// The processes over which a network's sequences are split.
pub(super) struct SequenceParallel {
    world: World,
    /// For the grid seen last. A forward pass holds it to its end: all processes must run the same one anyway.
    plan: Mutex<Option<Plan>>,
}

impl SequenceParallel {
    pub(super) fn new(world: World) -> Self {
        Self { world, plan: Mutex::new(None) }
    }

    /// The plan for `grid`: that of the `last` one if it is the same.
    fn plan<'a>(
        &self,
        last: &'a mut Option<Plan>,
        grid: Grid,
        config: &DimConfig,
        device: Device,
    ) -> Result<&'a Plan, ModelError> {
        Ok(match last.take().filter(|plan| plan.strips.grid == grid) {
            Some(plan) => last.insert(plan),
            None => last.insert(Plan::new(grid, config, (self.world.rank(), self.world.size()), device)?),
        })
    }
}

impl Dim {
    /// The forward pass as all processes run it together; `x` and the result are the whole image's.
    pub(super) fn run_in_strips(
        &self,
        parallel: &SequenceParallel,
        x: &Tensor,
        time: &TimeFeatures,
        class: Option<&Tensor>,
        options: ForwardOptions,
    ) -> Result<Tensor, ModelError> {
        let grid = grid_of_input(x, self.config.in_channels, self.config.patch_size)?;
        check_times(&time.token, x)?;
        let class = labels(class, Some(self.config.null_label()), x)?;
        // A poisoned lock only means that another thread panicked here; what it left is old or whole.
        let mut last = parallel.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let (world, plan) = (&parallel.world, parallel.plan(&mut last, grid, &self.config, x.device())?);
        let strips = plan.strips;

        let condition = self.conditioning.forward(time, &class)?;
        let sequence = self.strip_of(strips, x, time, &condition)?;
        let stream = self.run_blocks_in_strips(world, plan, sequence, &condition.modulation, options)?;

        let (_, columns) = grid.sizes();
        let own = size(strips.rows_of_image(strips.rank).len());
        let mut patches = cells_of(&stream, strips.strip(Axis::Rows))?.f_narrow(1, 0, own)?.f_narrow(2, 0, columns)?;
        if self.local_conv_out.is_some() {
            let (near, above) = strips.with_neighbours(world, &patches)?;
            patches = with_local_conv(self.local_conv_out.as_ref(), near)?.f_narrow(1, above, own)?;
        }
        let output = self.output(patches, time, &condition, &mut Observer(None))?;
        Ok(unpatchify(&strips.gathered(world, &output)?, grid, self.config.patch_size)?)
    }

    /// Prefix and strip of rows of the sequence, from the rows of the image that they need.
    fn strip_of(
        &self,
        strips: Strips,
        x: &Tensor,
        time: &TimeFeatures,
        condition: &Condition,
    ) -> Result<Tensor, TorchError> {
        let Grid { rows, columns } = strips.grid;
        let own = strips.rows_of_image(strips.rank);
        // The local convolution also looks at the rows on both sides.
        let reach = usize::from(self.local_conv_in.is_some());
        let near = own.start.saturating_sub(reach)..(own.end + reach).min(rows);
        let part = Grid { rows: near.len(), columns };
        let patch = self.config.patch_size;
        let x = x.f_narrow(2, size(near.start * patch), size(part.rows * patch))?;
        let positions = self.position_table.rows(strips.grid)?;
        let conditions = Tensor::f_stack(&[&time.token, &condition.class_token], 1)?;
        let conditions = conditions.f_add(&positions.f_narrow(1, 0, 2)?)?;
        let positions = positions.f_narrow(1, size(2 + near.start * columns), size(part.patches()))?;
        let patches = self.patch_embed.forward(&x, part)?.f_add(&positions)?;
        let patches = patches.f_unflatten(1, [size(part.rows), size(columns)])?;
        let patches = with_local_conv(self.local_conv_in.as_ref(), patches)?;
        let patches = patches.f_narrow(1, size(own.start - near.start), size(own.len()))?;
        self.sequencer.assemble_rows(&conditions, &patches, strips.grid, strips.rows_below())
    }

    /// The blocks, encoder to decoder, as [`Dim::run_blocks`] runs them on whole sequences; ends in strips of rows.
    fn run_blocks_in_strips(
        &self,
        world: &World,
        plan: &Plan,
        sequence: Tensor,
        modulation: &Tensor,
        options: ForwardOptions,
    ) -> Result<Tensor, TorchError> {
        let precision = self.precision;
        let modulations = self.modulations(modulation)?;
        let first_decoder_block = self.config.first_decoder_block();
        let mut axis = Axis::Rows;
        let mut stream = Stream::new(sequence);
        let mut skips = Vec::new();
        let blocks = self.blocks.iter().zip(&self.directions).zip(&modulations);
        for (index, ((block, &direction), modulation)) in blocks.enumerate() {
            if index >= first_decoder_block {
                stream = self.joined(index, &stream, &mut skips, options)?;
            }
            // A skip stays in the strips of the block that put it out.
            let mut left_before = None;
            if axis != Axis::of(direction) {
                let settled = match stream.branch {
                    Some(_) => stream.settle(Kind::Float)?,
                    None => stream.x,
                };
                stream = Stream::new(plan.strips.turned(world, &settled, axis)?);
                left_before = Some(settled);
                axis = axis.other();
            }
            let (strip, world) = (plan.walk(direction).shallow_clone(), world.clone());
            let mix = move |mamba: &Mamba, input: &Tensor| mamba.forward_of_strip(input, &strip, &world, precision);
            let (entered, left) = self.run_block(block, &stream, modulation, mix, &mut Observer(None))?;
            if first_decoder_block < self.config.depth && (2..first_decoder_block).contains(&index) {
                skips.push(left_before.unwrap_or(entered));
            }
            stream = left;
        }
        debug_assert_eq!(axis, Axis::Rows, "the last block scans by rows");
        stream.settle(Kind::Float)
    }
}
