//! The order in which images are shown: a function of the seed and of the images seen, with no state of its own.

use crate::DataError;
use crate::mix::{absorb, below};

/// Which image comes at which moment of a run, epoch after epoch, each epoch a permutation of all images.
///
/// The permutation of an epoch is a keyed "swap-or-not" shuffle (Hoang, Morris and Rogaway, "An enciphering scheme based
/// on a card shuffle", CRYPTO 2012). It works on any number of images, needs no memory, and reaches any position at
/// once, so a resumed run need not walk through what it has seen. With the paper's bound in mind it runs 6 log2(len)
/// rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    seed: u64,
    len: u64,
    rounds: u32,
}

/// Separates the hashes of the order from those of other uses of the same seed.
const DOMAIN: u64 = 0x6F72_6465_7200_0001;

/// The least number of rounds; makes the bias of the smallest sets negligible (2^-24 for two images).
const MIN_ROUNDS: u32 = 24;

impl Order {
    /// A shuffled order over `len` images.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if `len` is 0.
    pub fn new(seed: u64, len: usize) -> Result<Self, DataError> {
        let bits = usize::BITS - len.saturating_sub(1).leading_zeros();
        Ok(Self { seed, rounds: (6 * bits).max(MIN_ROUNDS), ..Self::sequential(len)? })
    }

    /// The order 0, 1, … `len` - 1, 0, 1, …, for evaluation.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if `len` is 0.
    pub fn sequential(len: usize) -> Result<Self, DataError> {
        if len == 0 {
            return Err(DataError::Argument { name: "len", expected: "at least 1 image", found: "0".into() });
        }
        Ok(Self { seed: 0, len: len as u64, rounds: 0 })
    }

    /// Number of images in an epoch.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Index of the image that is shown when `images_seen` images have been shown before it.
    #[must_use]
    pub fn index_at(&self, images_seen: u64) -> usize {
        let (epoch, position) = (images_seen / self.len, images_seen % self.len);
        let key = absorb(absorb(DOMAIN, self.seed), epoch);
        (0..self.rounds).fold(position, |index, round| self.swap_or_not(absorb(key, u64::from(round)), index)) as usize
    }

    /// One round: pairs every index with `turn - index` (mod `len`) and swaps some of the pairs.
    #[inline]
    fn swap_or_not(&self, key: u64, index: u64) -> u64 {
        let turn = below(key, self.len);
        let partner = if turn >= index { turn - index } else { turn + (self.len - index) };
        // Both members of a pair ask about the greater one, so they agree and the round is a bijection.
        let swap = absorb(key, index.max(partner)) & 1 == 1;
        if swap { partner } else { index }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_epoch_is_a_permutation(seed: u64, len in 1_usize..700, epoch in 0_u64..1_000_000) {
            let order = Order::new(seed, len).unwrap();
            let first = epoch * len as u64;
            let mut seen: Vec<usize> = (first..first + len as u64).map(|at| order.index_at(at)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..len));
        }

        #[test]
        fn any_position_of_a_huge_set_is_in_range(seed: u64, len in 1_usize..=usize::MAX, images_seen: u64) {
            prop_assert!(Order::new(seed, len).unwrap().index_at(images_seen) < len);
        }

        #[test]
        fn sequential_order_counts(len in 1_usize..100, images_seen in 0_u64..10_000) {
            prop_assert_eq!(Order::sequential(len).unwrap().index_at(images_seen), (images_seen % len as u64) as usize);
        }
    }

    #[test]
    fn every_permutation_of_a_small_set_is_equally_likely() {
        let order = Order::new(3, 4).unwrap();
        let epochs = 24_000_u64;
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..epochs {
            let permutation: Vec<usize> = (0..4).map(|i| order.index_at(epoch * 4 + i)).collect();
            *counts.entry(permutation).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let expected = epochs as f64 / 24.0;
        let chi_squared: f64 = counts.values().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        assert!(chi_squared < 49.7, "chi squared {chi_squared} with 23 degrees of freedom (99.9 % lie below 49.7)");
    }

    #[test]
    fn epochs_and_seeds_give_unrelated_orders() {
        // Two independent permutations agree in one place on average, and in more than ten about once in 10^8.
        let len = 10_000;
        let (one, other) = (Order::new(1, len).unwrap(), Order::new(2, len).unwrap());
        let agree =
            |a: &dyn Fn(u64) -> usize, b: &dyn Fn(u64) -> usize| (0..len as u64).filter(|&i| a(i) == b(i)).count();
        assert!(agree(&|i| one.index_at(i), &|i| other.index_at(i)) <= 10);
        assert!(agree(&|i| one.index_at(i), &|i| one.index_at(i + len as u64)) <= 10);
        assert!(agree(&|i| one.index_at(i), &|i| i as usize) <= 10);
    }

    #[test]
    fn an_empty_order_is_refused() {
        assert!(matches!(Order::new(0, 0), Err(DataError::Argument { name: "len", .. })));
    }
}
