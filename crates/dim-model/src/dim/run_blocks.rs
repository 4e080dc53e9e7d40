//! The blocks one after the other, with their skips.

use dim_torch::TorchError;
use tch::{Kind, Tensor};

use super::block::Block;
use super::mamba::Mamba;
use super::{Dim, ForwardOptions};
use crate::grid::Grid;
use crate::layers::{Segment, Stream};
use crate::observer::Observer;

impl Dim {
    /// Modulations of all blocks at once, `[batch, 3, d_model]` each: one addition, and one gradient, in place of as many as blocks.
    pub(super) fn modulations(&self, shared: &Tensor) -> Result<Vec<Tensor>, TorchError> {
        let tables = Tensor::f_stack(&self.modulation_tables, 0)?;
        Ok(shared.f_unsqueeze(1)?.f_add(&tables)?.f_unbind(1)?)
    }

    /// The blocks, encoder to decoder; skips are handed over last in, first out.
    pub(super) fn run_blocks(
        &self,
        sequence: Tensor,
        modulation: &Tensor,
        grid: Grid,
        options: ForwardOptions,
        observe: &mut Observer,
    ) -> Result<Tensor, TorchError> {
        let (maps, precision) = (self.token_maps(grid), self.precision);
        let modulations = self.modulations(modulation)?;
        let first_decoder_block = self.config.first_decoder_block();
        let mut stream = Stream::new(sequence);
        let mut skips = Vec::new();
        let blocks = self.blocks.iter().zip(&self.directions).zip(&modulations);
        for (index, ((block, direction), modulation)) in blocks.enumerate() {
            if index >= first_decoder_block {
                stream = self.joined(index, &stream, &mut skips, options)?;
            }
            let token_map = maps[*direction as usize].clone();
            let mix = move |mamba: &Mamba, input: &Tensor| mamba.forward(input, &token_map, precision);
            let (entered, left) = self.run_block(block, &stream, modulation, mix, observe)?;
            // What enters a block is what the one before it has put out; the first block's output is no skip.
            if first_decoder_block < self.config.depth && (2..first_decoder_block).contains(&index) {
                skips.push(entered);
            }
            stream = left;
        }
        stream.settle(Kind::Float)
    }

    /// The stream that decoder block `index` reads: `stream` with the last of the `skips`.
    pub(super) fn joined(
        &self,
        index: usize,
        stream: &Stream,
        skips: &mut Vec<Tensor>,
        options: ForwardOptions,
    ) -> Result<Stream, TorchError> {
        let kind = self.precision.kind();
        let first_decoder_block = self.config.first_decoder_block();
        // Only linear maps read it: those of this block and, of the last encoder block's stream, as a skip.
        let settled = stream.settle(kind)?;
        if index == first_decoder_block {
            skips.push(settled.shallow_clone());
        }
        let mut skip = skips.pop().unwrap_or_else(|| settled.shallow_clone());
        if let Some(tuning) = options.skip_tuning {
            // Not in place: a skip shares its memory with the stream that it was taken from.
            skip = &skip * tuning.weight(index, first_decoder_block, self.config.depth);
        }
        let Some(join) = self.joins.get(index - first_decoder_block) else {
            return Ok(Stream::new(settled.to_kind(Kind::Float)));
        };
        let joined =
            join.run(&[&settled, &skip], move |join, inputs| Ok(vec![join.forward(&inputs[0], &inputs[1], kind)?]))?;
        let joined = joined.into_iter().next();
        joined.map(Stream::new).ok_or_else(|| TorchError::Libtorch("a long skip was joined to nothing".to_owned()))
    }

    /// `mix` runs the block's Mamba layer. Returns the stream that entered and the one that leaves.
    pub(super) fn run_block(
        &self,
        block: &Segment<Block>,
        stream: &Stream,
        modulation: &Tensor,
        mix: impl Fn(&Mamba, &Tensor) -> Result<Tensor, TorchError> + Send + 'static,
        observe: &mut Observer,
    ) -> Result<(Tensor, Stream), TorchError> {
        let precision = self.precision;
        if observe.looks() {
            return block.with(|block| block.forward(stream, modulation, precision, mix, observe));
        }
        let (mut inputs, form) = stream.parts();
        inputs.push(modulation);
        let outputs = block.run(&inputs, move |block, inputs| {
            let (stream, rest) = Stream::from_parts(inputs, form)?;
            let (_, left) = block.forward(&stream, &rest[0], precision, &mix, &mut Observer(None))?;
            // What entered is what the stream that leaves is added to.
            Ok(left.parts().0.into_iter().map(Tensor::shallow_clone).collect())
        })?;
        let (left, _) = Stream::from_parts(&outputs, Block::LEAVES)?;
        Ok((left.x.shallow_clone(), left))
    }
}
