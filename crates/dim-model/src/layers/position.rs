//! Learned positions for other grids than they were learned on.

use dim_torch::TorchError;
use tch::Tensor;

use crate::grid::Grid;

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
