//! Skip-tuning: long skips scaled from the middle of the network to its end, without training.
//! Source: Ma et al. 2024, "The Surprising Effectiveness of Skip-Tuning" (arXiv 2402.15170), as DiM uses it.

/// Weights of the long skips: `bottom` at the first decoder block, `top` at the last, linear between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkipTuning {
    /// Weight of the outermost skip, taken by the last block.
    pub top: f64,
    /// Weight of the innermost skip, taken by the first decoder block.
    pub bottom: f64,
}

impl SkipTuning {
    /// What the authors' code does when asked for `top` and `bottom`: meant to grow with the time, its time is always
    /// 1/1000, so that hardly anything is tuned (0.82 becomes 0.99982).
    #[must_use]
    pub fn as_published(top: f64, bottom: f64) -> Self {
        Self { top: bottom + (top - bottom) / 1000.0, bottom }
    }

    /// Weight of the skip that enters `block`, of a network of `depth` blocks whose decoder starts at `first`.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a few hundred blocks at most
    pub fn weight(self, block: usize, first: usize, depth: usize) -> f64 {
        let last = depth - 1;
        if last == first {
            return self.bottom;
        }
        self.bottom + (self.top - self.bottom) * (block - first) as f64 / (last - first) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_run_from_bottom_to_top() {
        let tuning = SkipTuning { top: 0.82, bottom: 1.0 };
        assert!((tuning.weight(13, 13, 25) - 1.0).abs() < 1e-12);
        assert!((tuning.weight(24, 13, 25) - 0.82).abs() < 1e-12);
        assert!((SkipTuning::as_published(0.82, 1.0).top - 0.99982).abs() < 1e-12);
    }
}
