//! What processes tell each other between the layers: the stream in strips of the other axis, rows at edges, and the result.

use dim_torch::{TorchError, distributed::World};
use tch::Tensor;

use super::super::config::PREFIX;
use super::plan::{Axis, Plan};
use crate::grid::{Grid, size};

impl Plan {
    /// This process's part of a stream that is split along `axis`, `[batch, prefix and strip, channel]` → its part of the same split along
    /// the other axis.
    pub(super) fn turned(&self, world: &World, stream: &Tensor, axis: Axis) -> Result<Tensor, TorchError> {
        let (batch, _, width) = stream.size3()?;
        let options = (stream.kind(), stream.device());
        let other = axis.other();
        let (from, to) = (self.strip(axis), self.strip(other));
        let length = |grid: Grid| batch * size(grid.patches()) * width;

        // Process q gets what this strip shares with q's.
        let cells = cells_of(stream, from)?;
        let input = Tensor::f_empty([length(from)], options)?;
        let sent = self.blocks(&cells, other, &input, |mut block, cells| Ok(block.f_copy_(&cells).map(drop)?))?;

        let whole = Tensor::f_empty([batch, size(PREFIX + to.patches()), width], options)?;
        whole.f_narrow(1, 0, size(PREFIX))?.f_copy_(&stream.f_narrow(1, 0, size(PREFIX))?)?;
        let cells = cells_of(&whole, to)?;
        let output = Tensor::f_empty([length(to)], options)?;
        let received = self.blocks(&cells, axis, &output, |_, _| Ok(()))?;
        world.all_to_all((&output, &received), (&input, &sent))?.wait()?;
        self.blocks(&cells, axis, &output, |block, mut cells| Ok(cells.f_copy_(&block).map(drop)?))?;
        Ok(whole)
    }

    /// Shows `visit` every process's part of `buffer`, and the part of `cells`, `[batch, row, column, channel]`, along `axis` that it stands for. Returns
    /// the lengths of the parts.
    fn blocks(
        &self,
        cells: &Tensor,
        axis: Axis,
        buffer: &Tensor,
        mut visit: impl FnMut(Tensor, Tensor) -> Result<(), TorchError>,
    ) -> Result<Vec<i64>, TorchError> {
        let (mut lengths, mut start) = (Vec::new(), 0);
        for rank in 0..self.size {
            let share = self.share(axis, rank);
            let cells = cells.f_narrow(axis.dimension(), size(share.start), size(share.len()))?;
            let shape = cells.size();
            let length = shape.iter().product();
            visit(buffer.f_narrow(0, start, length)?.f_view(&shape[..])?, cells)?;
            lengths.push(length);
            start += length;
        }
        Ok(lengths)
    }

    /// This process's rows of the image, `[batch, row, column, channel]`, with one more on each side where another process has it; and how many
    /// there are above.
    pub(super) fn with_neighbours(&self, world: &World, rows: &Tensor) -> Result<(Tensor, i64), TorchError> {
        let count = rows.size()[1];
        let own = Tensor::f_stack(&[rows.f_select(1, 0)?, rows.f_select(1, count - 1)?], 0)?;
        let all = Tensor::f_empty([&[size(self.size)], &own.size()[..]].concat(), (own.kind(), own.device()))?;
        world.all_gather(&all, &own)?.wait()?;
        let edge = |rank: usize, which: i64| all.f_get(size(rank))?.f_get(which)?.f_unsqueeze(1);
        let mut parts = Vec::new();
        if self.rank > 0 {
            parts.push(edge(self.rank - 1, 1)?);
        }
        let above = size(parts.len());
        parts.push(rows.shallow_clone());
        if self.rank + 1 < self.size {
            parts.push(edge(self.rank + 1, 0)?);
        }
        Ok((Tensor::f_cat(&parts, 1)?, above))
    }

    /// The patches of the whole image, `[batch, patch, value]`, from this process's.
    pub(super) fn gathered(&self, world: &World, own: &Tensor) -> Result<Tensor, TorchError> {
        let (batch, count, values) = own.size3()?;
        let patches = |rank: usize| size(self.rows_of_image(rank).len() * self.grid.columns);
        let most = (0..self.size).map(patches).max().unwrap_or(0);
        let options = (own.kind(), own.device());
        let part = Tensor::f_zeros([batch, most, values], options)?;
        part.f_narrow(1, 0, count)?.f_copy_(own)?;
        let all = Tensor::f_empty([size(self.size), batch, most, values], options)?;
        world.all_gather(&all, &part)?.wait()?;
        let parts = (0..self.size).map(|rank| all.f_get(size(rank))?.f_narrow(1, 0, patches(rank)));
        Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>, _>>()?, 1)?)
    }
}

/// The cells of a stream, `[batch, row, column, channel]`: a view of it without its prefix.
pub(super) fn cells_of(stream: &Tensor, strip: Grid) -> Result<Tensor, TorchError> {
    let (rows, columns) = strip.sizes();
    Ok(stream.f_narrow(1, size(PREFIX), rows * columns)?.f_unflatten(1, [rows, columns])?)
}
