//! Directions in which blocks scan the grid, and the token maps that follow them. Source: DiM, section 3.2.

use dim_torch::TokenMap;

use super::config::{PREFIX, Padding};
use crate::grid::Grid;

impl Grid {
    /// The grid with DiM's padding tokens at the right and below.
    #[must_use]
    pub fn padded(self, padding: Padding) -> Self {
        Self { rows: self.rows + padding.width(), columns: self.columns + padding.width() }
    }

    /// Tokens of DiM's whole sequence: prefix and padded grid.
    #[must_use]
    pub fn tokens(self, padding: Padding) -> usize {
        PREFIX + self.padded(padding).patches()
    }
}

/// The order in which a block walks the padded grid. The prefix always comes first, in its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScanDirection {
    /// Row by row, from the upper left (the authors' 0).
    RowMajor,
    /// The exact reverse of row by row (the authors' −2).
    RowMajorReversed,
    /// Column by column, from the upper left (the authors' 1).
    ColumnMajor,
    /// The exact reverse of column by column (the authors' −1).
    ColumnMajorReversed,
}

use ScanDirection::{ColumnMajor, ColumnMajorReversed, RowMajor, RowMajorReversed};

impl ScanDirection {
    /// All four, in the order in which the encoder's blocks take turns.
    pub const ALL: [Self; 4] = [RowMajor, RowMajorReversed, ColumnMajor, ColumnMajorReversed];

    /// Which canonical token each step of the scan reads and writes, for a grid of patches (without its pads).
    #[must_use]
    pub fn token_map(self, grid: Grid, padding: Padding) -> TokenMap {
        map_of((0..PREFIX).chain(self.cells(grid.padded(padding)).into_iter().map(|cell| PREFIX + cell)))
    }

    /// The cells of a grid, counted in raster order, in the order of the scan.
    pub(crate) fn cells(self, Grid { rows, columns }: Grid) -> Vec<usize> {
        let by_column = || (0..columns).flat_map(move |column| (0..rows).map(move |row| row * columns + column));
        match self {
            RowMajor => (0..rows * columns).collect(),
            RowMajorReversed => (0..rows * columns).rev().collect(),
            ColumnMajor => by_column().collect(),
            ColumnMajorReversed => {
                let mut cells: Vec<usize> = by_column().collect();
                cells.reverse();
                cells
            }
        }
    }
}

/// The token map of tokens in the order of a scan, each of which comes once.
pub(crate) fn map_of(tokens: impl Iterator<Item = usize>) -> TokenMap {
    #[allow(clippy::cast_possible_truncation)] // a sequence of 2^32 tokens does not fit any memory
    let map = tokens.map(|token| token as u32).collect();
    TokenMap::new(map).unwrap_or_else(|error| unreachable!("a scan order visits every token once: {error}"))
}

/// The direction of each of `depth` blocks: the encoder takes turns in the first `count` of all directions, the decoder mirrors it.
#[must_use]
pub fn directions(depth: usize, count: usize) -> Vec<ScanDirection> {
    let first_decoder_block = depth - (depth - 1) / 2;
    let turn = |block: usize| ScanDirection::ALL[block % count.clamp(1, ScanDirection::ALL.len())];
    (0..depth).map(|block| turn(if block < first_decoder_block { block } else { depth - 1 - block })).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tiny_depths_follow_the_published_chains() {
        assert_eq!(directions(5, 4), [RowMajor, RowMajorReversed, ColumnMajor, RowMajorReversed, RowMajor]);
        assert_eq!(
            directions(9, 4),
            [
                RowMajor,
                RowMajorReversed,
                ColumnMajor,
                ColumnMajorReversed,
                RowMajor,
                ColumnMajorReversed,
                ColumnMajor,
                RowMajorReversed,
                RowMajor
            ]
        );
    }

    #[test]
    fn fewer_directions_are_the_first_ones() {
        assert_eq!(directions(5, 1), [RowMajor; 5]);
        assert_eq!(directions(5, 2), [RowMajor, RowMajorReversed, RowMajor, RowMajorReversed, RowMajor]);
    }

    #[test]
    fn column_major_walks_down_first() {
        let map = ColumnMajor.token_map(Grid { rows: 2, columns: 2 }, Padding::None);
        assert_eq!(map.as_slice(), [0, 1, 2, 3, 4, 5, 7, 6, 8]);
        let map = ColumnMajor.token_map(Grid { rows: 1, columns: 2 }, Padding::Lateral);
        // Padded to 4 rows of 5; the first column is cells 0, 5, 10, 15.
        assert_eq!(map.as_slice()[..10], [0, 1, 2, 3, 4, 5, 10, 15, 20, 6]);
    }

    proptest! {
        #[test]
        fn decoder_mirrors_encoder_and_ends_row_major(half in 1_usize..40, count in 1_usize..=4) {
            let depth = 2 * half + 1;
            let directions = directions(depth, count);
            prop_assert_eq!(directions[0], RowMajor);
            prop_assert_eq!(directions[depth - 1], RowMajor);
            // Block mid + k enters with the order that block mid − 1 − k left: their skips line up.
            for block in half + 1..depth {
                prop_assert_eq!(directions[block], directions[depth - 1 - block]);
            }
        }

        #[test]
        fn token_maps_are_bijections_that_keep_the_prefix(
            rows in 1_usize..20,
            columns in 1_usize..20,
            padding in prop::sample::select(vec![Padding::Lateral, Padding::None]),
        ) {
            let grid = Grid { rows, columns };
            for direction in ScanDirection::ALL {
                let map = direction.token_map(grid, padding);
                let mut seen: Vec<u32> = map.as_slice().to_vec();
                prop_assert_eq!(&seen[..PREFIX], &[0, 1, 2, 3, 4]);
                seen.sort_unstable();
                prop_assert!(seen.iter().enumerate().all(|(index, &token)| index == token as usize));
            }
        }

        #[test]
        fn reversed_directions_are_reverses(rows in 1_usize..12, columns in 1_usize..12) {
            let grid = Grid { rows, columns };
            for (forward, backward) in [(RowMajor, RowMajorReversed), (ColumnMajor, ColumnMajorReversed)] {
                let mut cells = forward.token_map(grid, Padding::Rho).as_slice()[PREFIX..].to_vec();
                cells.reverse();
                let backward = backward.token_map(grid, Padding::Rho);
                prop_assert_eq!(&cells[..], &backward.as_slice()[PREFIX..]);
            }
        }
    }
}
