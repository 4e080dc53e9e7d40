//! Learned positions for other grids than they were learned on.

use dim_torch::TorchError;
use tch::{Tensor, no_grad};

use crate::grid::{Grid, size};

/// The rows of a position table, `[1, prefix + patches, d_model]`, for the grid `to`, where the table is for `from`: the
/// table itself where the two agree, else its patches resized bilinearly (half-pixel centres, no antialiasing).
pub(crate) fn resized_rows(table: &Tensor, prefix: i64, from: Grid, to: Grid) -> Result<Tensor, TorchError> {
    if from == to {
        return Ok(table.shallow_clone());
    }
    let width = table.size()[2];
    let [old_rows, old_columns, rows, columns] =
        [from.rows, from.columns, to.rows, to.columns].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    let resized = table
        .f_narrow(1, prefix, old_rows * old_columns)?
        .f_view([1, old_rows, old_columns, width])?
        .f_permute([0, 3, 1, 2])?
        .f_upsample_bilinear2d([rows, columns], false, None, None)?
        .f_permute([0, 2, 3, 1])?
        .f_reshape([1, rows * columns, width])?;
    Ok(Tensor::f_cat(&[table.f_narrow(1, 0, prefix)?, resized], 1)?)
}

/// A learned table of positions, `[(1,) prefix + patches, d_model]`, made for a square grid, as a network for the grid `to` needs
/// it; `None` if there is nothing to resize, or it is no such table.
pub(crate) fn resized_table(table: &Tensor, prefix: usize, to: Grid) -> Result<Option<Tensor>, TorchError> {
    let shape = table.size();
    let [.., rows, width] = shape[..] else { return Ok(None) };
    let prefix = size(prefix);
    let patches = usize::try_from(rows - prefix).unwrap_or(0);
    let from = Grid::square(patches.isqrt());
    if from.patches() != patches || patches == 0 || from == to {
        return Ok(None);
    }
    no_grad(|| {
        let resized = resized_rows(&table.f_reshape([1, rows, width])?, prefix, from, to)?;
        Ok(Some(if shape.len() == 3 { resized } else { resized.f_squeeze_dim(0)? }))
    })
}
