//! Token maps are bijections.

use dim_kernels::{KernelError, TokenMap};
use proptest::prelude::*;

use crate::buffer::permutation;

fn problem(tokens: Vec<u32>) -> String {
    TokenMap::new(tokens).unwrap_err().to_string()
}

#[test]
fn a_repeated_token_is_refused_with_its_step() {
    let message = problem(vec![2, 0, 2]);
    assert_eq!(message, "a token map of length 3 must hold each of 0..3 once, got 2 at step 2, which came before");
}

#[test]
fn a_token_out_of_range_is_refused_with_its_step() {
    let message = problem(vec![0, 4, 1]);
    assert_eq!(message, "a token map of length 3 must hold each of 0..3 once, got 4 at step 1, which is out of range");
    assert!(matches!(TokenMap::new(vec![u32::MAX]), Err(KernelError::TokenMap { step: 0, got: u32::MAX, .. })));
}

#[test]
fn identity_maps_every_step_to_itself() {
    assert_eq!(TokenMap::identity(4).as_slice(), [0, 1, 2, 3]);
    assert_eq!(TokenMap::identity(4).len(), 4);
    assert!(TokenMap::identity(0).is_empty());
    assert!(TokenMap::new(Vec::new()).unwrap().is_empty());
}

proptest! {
    #[test]
    fn inverse_undoes_and_is_undone(len in 0_usize..200, seed in any::<u64>()) {
        let map = TokenMap::new(permutation(seed, len)).unwrap();
        let inverse = map.inverse();
        for step in 0..len {
            prop_assert_eq!(inverse.as_slice()[map.as_slice()[step] as usize] as usize, step);
            prop_assert_eq!(map.as_slice()[inverse.as_slice()[step] as usize] as usize, step);
        }
        prop_assert_eq!(inverse.inverse(), map);
    }

    #[test]
    fn exactly_the_permutations_are_accepted(tokens in proptest::collection::vec(0_u32..6, 0..6)) {
        let mut sorted = tokens.clone();
        sorted.sort_unstable();
        let is_permutation = sorted.iter().copied().eq(0..tokens.len() as u32);
        prop_assert_eq!(TokenMap::new(tokens).is_ok(), is_permutation);
    }
}
