//! What one forward pass costs: every matrix product is counted, pads and prefix included.

use crate::{DimConfig, scan_order::Grid, specs::TIME_FREQUENCIES};

/// Multiply-accumulates of one image's forward pass in matrix products, by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// `in_proj`, `x_proj`, `dt_proj` and `out_proj` of every block.
    pub projections: u64,
    /// The linear maps of the long skips.
    pub long_skips: u64,
    /// Patch embedding, time embedding, modulation and output.
    pub rest: u64,
}

impl Cost {
    /// All of it.
    #[must_use]
    pub fn total(self) -> u64 {
        self.projections + self.long_skips + self.rest
    }
}

impl DimConfig {
    /// Multiply-accumulates of one image of `grid` patches.
    #[must_use]
    pub fn cost(&self, grid: Grid) -> Cost {
        let (d, e, n, r) = (self.d_model, self.d_inner(), self.d_state, self.dt_rank());
        let tokens = grid.tokens();
        let block = d * 2 * e + e * (r + 2 * n) + r * e + e * d;
        let skips = self.depth - self.first_decoder_block();
        let patch = self.patch_size * self.patch_size * self.in_channels;
        let rest = 2 * grid.patches() * patch * d + TIME_FREQUENCIES * d + d * d + 3 * d * d + 2 * d * d;
        Cost {
            projections: (tokens * self.depth * block) as u64,
            long_skips: (tokens * skips * 2 * d * d) as u64,
            rest: rest as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dim_h_costs_308_gmac_at_256_px() {
        let config = DimConfig::dim_h_2();
        let gmac = config.cost(config.table_grid()).total() as f64 / 1e9;
        assert_eq!(gmac.round() as u64, 308);
    }
}
