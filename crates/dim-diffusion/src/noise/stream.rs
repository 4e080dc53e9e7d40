//! Normal and uniform numbers per sample from a counter-based generator.

use std::iter;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use tch::{Device, Tensor};

use crate::{DiffusionError, upload};

/// A family of random sequences, one per sample index.
///
/// The sequence of sample `i` comes from ChaCha8 under a key made of the seed, the stream's name and a step number,
/// with `i` as nonce; so sequences of different samples, steps, names or seeds are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseStream {
    seed: u64,
    name_hash: u64,
    step: u64,
}

impl NoiseStream {
    /// The stream called `name` under `seed`. Different purposes take different names.
    pub fn new(seed: u64, name: &str) -> Self {
        Self { seed, name_hash: fnv1a(name.as_bytes()), step: 0 }
    }

    /// The same stream at another step, for consumers that draw for one sample again and again.
    pub fn at_step(self, step: u64) -> Self {
        Self { step, ..self }
    }

    /// Standard normal numbers, `[batch, …shape]`, f32, on `device`; row `j` belongs to sample `indices[j]`.
    ///
    /// # Errors
    /// If a size is negative or the tensor would not fit into memory addresses.
    pub fn normal(&self, indices: &[u64], shape: &[i64], device: Device) -> Result<Tensor, DiffusionError> {
        let size: Vec<i64> = iter::once(indices.len() as i64).chain(shape.iter().copied()).collect();
        let count = |size: &[i64]| size.iter().try_fold(1usize, |n, &s| n.checked_mul(usize::try_from(s).ok()?));
        let (Some(per_sample), Some(total)) = (count(shape), count(&size)) else {
            return Err(DiffusionError::WrongShape {
                argument: "noise".to_owned(),
                expected: "[batch, …] of sizes that are not negative and fit into memory".to_owned(),
                actual: size,
            });
        };
        let mut values = vec![0f32; total];
        if total > 0 {
            values.par_chunks_mut(per_sample).zip(indices).for_each(|(row, &index)| {
                let mut generator = self.generator(index);
                row.fill_with(|| StandardNormal.sample(&mut generator));
            });
        }
        upload(&Tensor::f_from_slice(&values)?.f_view(&size[..])?, device)
    }

    /// One number of sample `index`, uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn uniform(&self, index: u64) -> f64 {
        let bits = self.generator(index).next_u64() >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    /// One standard normal number of sample `index`.
    pub fn standard_normal(&self, index: u64) -> f64 {
        StandardNormal.sample(&mut self.generator(index))
    }

    fn generator(&self, index: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.name_hash.to_le_bytes());
        key[16..24].copy_from_slice(&self.step.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(index);
        generator
    }
}

/// 64-bit FNV-1a: a fixed hash, unlike the standard library's, so that streams stay the same between releases.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
