//! What DiM costs: pads and prefix are counted.

use super::{config::DimConfig, specs::TIME_FREQUENCIES};
use crate::{Cost, grid::Grid};

/// Multiply-accumulates of one image of `grid` patches.
pub(super) fn cost(config: &DimConfig, grid: Grid) -> Cost {
    let (d, e, n, r) = (config.d_model, config.d_inner(), config.d_state, config.dt_rank());
    let tokens = grid.tokens(config.padding);
    let block = d * 2 * e + e * (r + 2 * n) + r * e + e * d;
    let skips = config.depth - config.first_decoder_block();
    let patch = config.patch_size * config.patch_size * config.in_channels;
    let rest = 2 * grid.patches() * patch * d + TIME_FREQUENCIES * d + d * d + 3 * d * d + 2 * d * d;
    Cost::default()
        .and("projections of the Mamba layers", tokens * config.depth * block)
        .and("long skips", tokens * skips * 2 * d * d)
        .and("patches, conditions, output", rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dim_h_costs_308_gmac_at_256_px() {
        let config = DimConfig::dim_h_2();
        let gmac = cost(&config, config.table_grid()).total() as f64 / 1e9;
        assert_eq!(gmac.round() as u64, 308);
    }
}
