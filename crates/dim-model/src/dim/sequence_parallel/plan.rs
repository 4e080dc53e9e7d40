//! Who has which tokens: strips of whole rows of the padded grid where scans go by rows, of whole columns where they go by columns.

use std::ops::Range;

use dim_torch::{TokenMap, TorchError, ops::Strip};
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

/// The strips of a grid.
pub(super) struct Plan {
    pub(super) grid: Grid,
    pub(super) padded: Grid,
    pub(super) rank: usize,
    pub(super) size: usize,
    /// Of each direction, in the order of [`ScanDirection::ALL`].
    walks: [Walk; 4],
}

/// How this process walks its strip in a direction.
struct Walk {
    token_map: TokenMap,
    strip_map: TokenMap,
    first: Tensor,
    last: Tensor,
    before: Vec<usize>,
}

impl Plan {
    /// The strips of process `rank` of `size`.
    ///
    /// # Errors
    /// [`ModelError::Input`] for an image with fewer rows or columns than that many strips need.
    pub(super) fn new(
        grid: Grid,
        config: &DimConfig,
        (rank, size): (usize, usize),
        device: Device,
    ) -> Result<Self, ModelError> {
        let padded = grid.padded(config.padding);
        let shortest = |length: usize| share(length, size, size - 1);
        let tokens = (padded.rows / size * padded.columns).min(padded.columns / size * padded.rows);
        // The last rows and columns are padding: every process must have some of the image itself, whose rows it puts out.
        if shortest(padded.rows).start >= grid.rows || tokens < LEAST_TOKENS.max(config.d_conv) {
            return Err(ModelError::Input {
                argument: "x",
                expected: format!("large enough to be split over {size} processes: smaller strips are not worth it"),
                got: format!("{} x {} patches", grid.rows, grid.columns),
            });
        }
        let mut plan = Self { grid, padded, rank, size, walks: ScanDirection::ALL.map(|_| Walk::none()) };
        for (index, direction) in ScanDirection::ALL.into_iter().enumerate() {
            let cells = direction.cells(plan.strip(Axis::of(direction)));
            plan.walks[index] = Walk::new(&cells, config.d_conv, plan.before(direction), device)?;
        }
        Ok(plan)
    }

    /// The ranks whose strips come before this one's.
    fn before(&self, direction: ScanDirection) -> Vec<usize> {
        match direction {
            ScanDirection::RowMajor | ScanDirection::ColumnMajor => (0..self.rank).collect(),
            ScanDirection::RowMajorReversed | ScanDirection::ColumnMajorReversed => {
                (self.rank + 1..self.size).rev().collect()
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

    /// This process's part of a scan.
    pub(super) fn walk(&self, direction: ScanDirection) -> Strip<'_> {
        let Walk { token_map, strip_map, first, last, before } = &self.walks[direction as usize];
        Strip { prefix: size(PREFIX), token_map, strip_map, first, last, before }
    }
}

/// The share of process `rank` of `size`; shares differ by one at most.
fn share(length: usize, size: usize, rank: usize) -> Range<usize> {
    length * rank / size..length * (rank + 1) / size
}

impl Walk {
    fn none() -> Self {
        let none = || Tensor::new();
        Self {
            token_map: TokenMap::identity(0),
            strip_map: TokenMap::identity(0),
            first: none(),
            last: none(),
            before: Vec::new(),
        }
    }

    fn new(cells: &[usize], d_conv: usize, before: Vec<usize>, device: Device) -> Result<Self, TorchError> {
        let edge = d_conv - 1;
        let tokens = |cells: &[usize]| -> Result<Tensor, TorchError> {
            let tokens: Vec<i64> = cells.iter().map(|cell| size(PREFIX + cell)).collect();
            Ok(Tensor::f_from_slice(&tokens)?.f_to_device(device)?)
        };
        Ok(Self {
            token_map: map_of((0..PREFIX).chain(cells.iter().map(|cell| PREFIX + cell))),
            strip_map: map_of(cells.iter().copied()),
            first: tokens(&cells[..edge])?,
            last: tokens(&cells[cells.len() - edge..])?,
            before,
        })
    }
}
