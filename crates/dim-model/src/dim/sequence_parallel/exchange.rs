//! What processes tell each other between the layers: the stream in strips of the other axis, rows at edges, and the result.
//!
//! All is differentiable, for a loss that is the sum of what each process makes of its own output: a gradient goes to where its tensor came from.

use dim_torch::custom_function::{CustomFunction, Forward, apply};
use dim_torch::{TorchError, distributed::World};
use tch::Tensor;

use super::super::config::PREFIX;
use super::plan::{Axis, Strips};
use crate::grid::{Grid, size};

/// An operation of all processes with one input and one output.
fn apply_one(operation: impl CustomFunction, input: &Tensor) -> Result<Tensor, TorchError> {
    let output = apply(operation, &[input])?.into_iter().next();
    output.ok_or_else(|| TorchError::Libtorch("an exchange between processes returned nothing".to_owned()))
}

/// Turns a stream from strips along `axis` to strips along the other.
struct Turn {
    strips: Strips,
    world: World,
    axis: Axis,
}

impl CustomFunction for Turn {
    const NAME: &'static str = "turn_of_strips";

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let turned = self.strips.turn(&self.world, &inputs[0], self.axis)?;
        Ok(Forward { outputs: vec![turned], saved: Vec::new() })
    }

    /// Every number goes back to where it came from; each process's prefix stays with it.
    fn backward(
        &self,
        _saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        _needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let back = |gradient: &Tensor| self.strips.turn(&self.world, gradient, self.axis.other());
        grad_outputs.iter().map(|gradient| gradient.as_ref().map(back).transpose()).collect()
    }
}

/// Adds the neighbours' rows at both edges.
struct WithNeighbours {
    strips: Strips,
    world: World,
}

impl CustomFunction for WithNeighbours {
    const NAME: &'static str = "rows_of_neighbours";

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let (rows, count) = (&inputs[0], inputs[0].size()[1]);
        let all = self.told([rows.f_select(1, 0)?, rows.f_select(1, count - 1)?])?;
        let edge = |rank: usize, which: i64| all.f_get(size(rank))?.f_get(which)?.f_unsqueeze(1);
        let Strips { rank, size, .. } = self.strips;
        let above = (rank > 0).then(|| edge(rank - 1, 1)).transpose()?;
        let below = (rank + 1 < size).then(|| edge(rank + 1, 0)).transpose()?;
        let parts: Vec<Tensor> = above.into_iter().chain([rows.shallow_clone()]).chain(below).collect();
        Ok(Forward { outputs: vec![Tensor::f_cat(&parts, 1)?], saved: Vec::new() })
    }

    /// The gradients of the rows that were the neighbours' go to them, and are added to those of the rows at their edges.
    fn backward(
        &self,
        _saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        _needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let Some(Some(gradient)) = grad_outputs.first() else { return Ok(vec![None]) };
        let Strips { rank, size: processes, .. } = self.strips;
        let (above, below) = (self.strips.above(), i64::from(rank + 1 < processes));
        let count = gradient.size()[1] - above - below;
        let outward = |there: i64, row: i64| match there {
            0 => gradient.f_select(1, 0)?.f_zeros_like(),
            _ => gradient.f_select(1, row),
        };
        let all = self.told([outward(above, 0)?, outward(below, above + count)?])?;
        let own = gradient.f_narrow(1, above, count)?.copy();
        if rank > 0 {
            let _ = own.f_select(1, 0)?.f_add_(&all.f_get(size(rank - 1))?.f_get(1)?)?;
        }
        if rank + 1 < processes {
            let _ = own.f_select(1, count - 1)?.f_add_(&all.f_get(size(rank + 1))?.f_get(0)?)?;
        }
        Ok(vec![Some(own)])
    }
}

impl WithNeighbours {
    /// Every process's pair of rows, `[process, 2, batch, column, channel]`.
    fn told(&self, pair: [Tensor; 2]) -> Result<Tensor, TorchError> {
        let (all, pending) = self.world.all_told(&Tensor::f_stack(&pair, 0)?)?;
        pending.wait()?;
        Ok(all)
    }
}

impl Strips {
    /// This process's part of a stream that is split along `axis`, `[batch, prefix and strip, channel]` → its part of the same split along
    /// the other axis.
    pub(super) fn turned(self, world: &World, stream: &Tensor, axis: Axis) -> Result<Tensor, TorchError> {
        apply_one(Turn { strips: self, world: world.clone(), axis }, stream)
    }

    fn turn(&self, world: &World, stream: &Tensor, axis: Axis) -> Result<Tensor, TorchError> {
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
    pub(super) fn with_neighbours(self, world: &World, rows: &Tensor) -> Result<(Tensor, i64), TorchError> {
        let rows = apply_one(WithNeighbours { strips: self, world: world.clone() }, rows)?;
        Ok((rows, self.above()))
    }

    /// Rows of a neighbour above this process's.
    fn above(self) -> i64 {
        i64::from(self.rank > 0)
    }

    /// The patches of the whole image, `[batch, patch, value]`, from this process's. All processes go on from it alike, so this one's gradient of it is that of
    /// all, and the part that belongs to `own` is the gradient of `own`.
    pub(super) fn gathered(&self, world: &World, own: &Tensor) -> Result<Tensor, TorchError> {
        let (batch, count, values) = own.size3()?;
        let patches = |rank: usize| size(self.rows_of_image(rank).len() * self.grid.columns);
        let most = (0..self.size).map(patches).max().unwrap_or(0);
        let part = Tensor::f_zeros([batch, most, values], (own.kind(), own.device()))?;
        part.f_narrow(1, 0, count)?.f_copy_(&own.f_detach()?)?;
        let (all, pending) = world.all_told(&part)?;
        pending.wait()?;
        let part = |rank: usize| match rank == self.rank {
            true => Ok(own.shallow_clone()),
            false => all.f_get(size(rank))?.f_narrow(1, 0, patches(rank)),
        };
        Ok(Tensor::f_cat(&(0..self.size).map(part).collect::<Result<Vec<_>, _>>()?, 1)?)
    }
}

/// The cells of a stream, `[batch, row, column, channel]`: a view of it without its prefix.
pub(super) fn cells_of(stream: &Tensor, strip: Grid) -> Result<Tensor, TorchError> {
    let (rows, columns) = strip.sizes();
    Ok(stream.f_narrow(1, size(PREFIX), rows * columns)?.f_unflatten(1, [rows, columns])?)
}
