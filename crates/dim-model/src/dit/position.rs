//! The table of positions of a DiT: sines and cosines of column and row, computed for any grid.

use std::sync::{Mutex, PoisonError};

use dim_torch::TorchError;
use tch::{Device, Tensor};

use crate::grid::{Grid, size};

/// Computes the table, and keeps that of the grid seen last: a run hardly ever changes its size.
#[derive(Default)]
pub(crate) struct PositionTable {
    last: Mutex<Option<(Grid, Tensor)>>,
}

impl PositionTable {
    /// `[1, patch, d_model]` f32 for `grid`, on `device`, always the same.
    pub(crate) fn rows(&self, grid: Grid, d_model: usize, device: Device) -> Result<Tensor, TorchError> {
        // A poisoned lock only means that another thread panicked here; the table is old or whole.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, table)) if *known == grid => Ok(table.shallow_clone()),
            _ => {
                let table = Tensor::f_from_slice(&table(grid, d_model))?
                    .f_view([1, size(grid.patches()), size(d_model)])?
                    .f_to_device(device)?;
                *last = Some((grid, table.shallow_clone()));
                Ok(table)
            }
        }
    }
}

/// The table row by row, in f64 until the end: for each patch the sines and cosines of its column, then of its row.
fn table(grid: Grid, d_model: usize) -> Vec<f32> {
    let quarter = d_model / 4;
    #[allow(clippy::cast_precision_loss)] // grids and widths are far below 2^53
    let frequencies: Vec<f64> = (0..quarter).map(|k| 10_000_f64.powf(-(k as f64) / quarter as f64)).collect();
    #[allow(clippy::cast_precision_loss)]
    let half = |position: usize| {
        let angles = frequencies.iter().map(move |frequency| position as f64 * frequency);
        let (sines, cosines): (Vec<f64>, Vec<f64>) = angles.map(f64::sin_cos).unzip();
        sines.into_iter().chain(cosines)
    };
    let cells = (0..grid.rows).flat_map(|row| (0..grid.columns).map(move |column| (row, column)));
    #[allow(clippy::cast_possible_truncation)] // the network computes in f32
    cells.flat_map(|(row, column)| half(column).chain(half(row))).map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_comes_first_and_a_larger_grid_continues_a_smaller_one() {
        let small = table(Grid { rows: 2, columns: 2 }, 8);
        let large = table(Grid { rows: 3, columns: 4 }, 8);
        let expected = [1.0_f64.sin(), 0.01_f64.sin(), 1.0_f64.cos(), 0.01_f64.cos(), 0.0, 0.0, 1.0, 1.0];
        for (value, expected) in small[8..16].iter().zip(expected) {
            assert!((f64::from(*value) - expected).abs() < 1e-7, "{value} {expected}");
        }
        assert_eq!(small[16..32], large[32..48], "the second row");
    }
}
