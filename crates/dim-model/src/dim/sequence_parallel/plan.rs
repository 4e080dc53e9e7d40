//! Who has which tokens: strips of whole rows of the padded grid where scans go by rows, of whole columns where they go by columns.

use std::ops::Range;

use dim_torch::{TorchError, ops::Strip};
use tch::{Device, Tensor};

use super::super::config::{DimConfig, PREFIX};
use super::super::scan_order::{ScanDirection, map_of};
use crate::ModelError;
use crate::grid::{Grid, size};

/// The fewest tokens of a strip: the kernels cut it into segments of eight.
const LEAST_TOKENS: usize = 16;

/// What strips consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Rows,
    Columns,
}

impl Axis {
    /// Of the strips that follow each other in a scan of this direction.
    pub(super) fn of(direction: ScanDirection) -> Self {
        match direction {
            ScanDirection::RowMajor | ScanDirection::RowMajorReversed => Self::Rows,
            ScanDirection::ColumnMajor | ScanDirection::ColumnMajorReversed => Self::Columns,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Rows => Self::Columns,
            Self::Columns => Self::Rows,
        }
    }

    /// The dimension of `[batch, row, column, channel]`.
    pub(super) fn dimension(self) -> i64 {
        match self {
            Self::Rows => 1,
            Self::Columns => 2,
        }
    }
}

/// Who has which rows and columns of a grid.
#[derive(Clone, Copy)]
pub(super) struct Strips {
    pub(super) grid: Grid,
    pub(super) padded: Grid,
    pub(super) rank: usize,
    pub(super) size: usize,
}

/// The strips of a grid, and how this process walks its own.
pub(super) struct Plan {
    pub(super) strips: Strips,
    /// In the order of [`ScanDirection::ALL`].
    walks: Vec<Strip>,
}

/// Whether an image of this grid can be split over `size` processes.
///
/// # Errors
/// [`ModelError::Input`] for one with fewer rows or columns than that many strips need.
pub(crate) fn check_split(grid: Grid, config: &DimConfig, size: usize) -> Result<(), ModelError> {
    let padded = grid.padded(config.padding);
    let last = share(padded.rows, size, size - 1);
    let tokens = (padded.rows / size * padded.columns).min(padded.columns / size * padded.rows);
    // The last rows and columns are padding: every process must have some of the image itself, whose rows it puts out.
    if last.start >= grid.rows || tokens < LEAST_TOKENS.max(config.d_conv) {
        return Err(ModelError::Input {
            argument: "x",
            expected: format!("large enough to be split over {size} processes: smaller strips are not worth it"),
            got: format!("{} x {} patches", grid.rows, grid.columns),
        });
    }
    Ok(())
}

impl Plan {
    /// The strips of process `rank` of `size`.
    ///
    /// # Errors
    /// As [`check_split`].
    pub(super) fn new(
        grid: Grid,
        config: &DimConfig,
        (rank, size): (usize, usize),
        device: Device,
    ) -> Result<Self, ModelError> {
        check_split(grid, config, size)?;
        let strips = Strips { grid, padded: grid.padded(config.padding), rank, size };
        let walk = |direction: ScanDirection| {
            let cells = direction.cells(strips.strip(Axis::of(direction)));
            walk(&cells, config.d_conv, strips.before_and_behind(direction), device)
        };
        Ok(Self { strips, walks: ScanDirection::ALL.into_iter().map(walk).collect::<Result<_, _>>()? })
    }

    /// This process's part of a scan.
    pub(super) fn walk(&self, direction: ScanDirection) -> &Strip {
        &self.walks[direction as usize]
    }
}

impl Strips {
    /// The ranks whose strips come before this one's, and those whose come behind it, in the order of the scan.
    fn before_and_behind(&self, direction: ScanDirection) -> (Vec<usize>, Vec<usize>) {
        let (above, below) = (0..self.rank, self.rank + 1..self.size);
        match direction {
            ScanDirection::RowMajor | ScanDirection::ColumnMajor => (above.collect(), below.collect()),
            ScanDirection::RowMajorReversed | ScanDirection::ColumnMajorReversed => {
                (below.rev().collect(), above.rev().collect())
            }
        }
    }

    /// Which rows or columns of the padded grid process `rank` has.
    pub(super) fn share(&self, axis: Axis, rank: usize) -> Range<usize> {
        let length = match axis {
            Axis::Rows => self.padded.rows,
            Axis::Columns => self.padded.columns,
        };
        share(length, self.size, rank)
    }

    /// The rows of process `rank` that are the image's.
    pub(super) fn rows_of_image(&self, rank: usize) -> Range<usize> {
        let rows = self.share(Axis::Rows, rank);
        rows.start..rows.end.min(self.grid.rows)
    }

    /// Which of the padding rows below the image are this process's.
    pub(super) fn rows_below(&self) -> Range<usize> {
        let below = |row: usize| row.saturating_sub(self.grid.rows);
        let rows = self.share(Axis::Rows, self.rank);
        below(rows.start)..below(rows.end)
    }

    /// The cells that this process has.
    pub(super) fn strip(&self, axis: Axis) -> Grid {
        let length = self.share(axis, self.rank).len();
        match axis {
            Axis::Rows => Grid { rows: length, ..self.padded },
            Axis::Columns => Grid { columns: length, ..self.padded },
        }
    }
}

/// The share of process `rank` of `size`; shares differ by one at most.
fn share(length: usize, size: usize, rank: usize) -> Range<usize> {
    length * rank / size..length * (rank + 1) / size
}

/// How a process whose strip has these `cells`, in the order of the scan, walks it.
fn walk(
    cells: &[usize],
    d_conv: usize,
    (before, behind): (Vec<usize>, Vec<usize>),
    device: Device,
) -> Result<Strip, TorchError> {
    let edge = d_conv - 1;
    let tokens = |cells: &[usize]| -> Result<Tensor, TorchError> {
        let tokens: Vec<i64> = cells.iter().map(|cell| size(PREFIX + cell)).collect();
        Ok(Tensor::f_from_slice(&tokens)?.f_to_device(device)?)
    };
    Ok(Strip {
        prefix: size(PREFIX),
        token_map: map_of((0..PREFIX).chain(cells.iter().map(|cell| PREFIX + cell))),
        strip_map: map_of(cells.iter().copied()),
        first: tokens(&cells[..edge])?,
        last: tokens(&cells[cells.len() - edge..])?,
        before,
        behind,
    })
}
