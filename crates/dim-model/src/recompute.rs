//! What a training step keeps of its forward pass, and what it computes again.

/// Memory for time: what backward computes again instead of finding it kept. Results are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recompute {
    /// So many blocks, evenly spaced, keep their inputs alone and run again; a number above that of the blocks means all.
    pub blocks: usize,
    /// The scan of every other block runs again (DiM in bf16; no other layer keeps as much for as little time).
    pub scan: bool,
}

impl Recompute {
    /// Whether block `index` of `depth` runs again.
    pub(crate) fn block(self, index: usize, depth: usize) -> bool {
        let share = |index: usize| index * self.blocks.min(depth) / depth.max(1);
        share(index + 1) > share(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_many_blocks_as_asked_for_are_chosen_and_evenly(depth in 1_usize..100, blocks in 0_usize..120) {
            let recompute = Recompute { blocks, scan: false };
            let chosen: Vec<usize> = (0..depth).filter(|index| recompute.block(*index, depth)).collect();
            prop_assert_eq!(chosen.len(), blocks.min(depth));
            let gaps: Vec<usize> = chosen.windows(2).map(|pair| pair[1] - pair[0]).collect();
            if let (Some(low), Some(high)) = (gaps.iter().min(), gaps.iter().max()) {
                prop_assert!(high - low <= 1);
            }
        }
    }
}
