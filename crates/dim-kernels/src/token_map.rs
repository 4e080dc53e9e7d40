//! The order in which an op walks the tokens.

use std::sync::Arc;

use crate::cuda::{DeviceTokens, Stream};
use crate::error::KernelError;

/// A scan order: step `l` of an op reads and writes token `map[l]` of the stored order.
///
/// Always a bijection of `0..len`. Cloning shares the map, and its copies on the GPUs that have used it: make a map once, not per call.
#[derive(Clone, Debug)]
pub struct TokenMap {
    tokens: Arc<[u32]>,
    on_devices: Arc<DeviceTokens>,
}

impl PartialEq for TokenMap {
    fn eq(&self, other: &Self) -> bool {
        self.tokens == other.tokens
    }
}

impl Eq for TokenMap {}

impl TokenMap {
    /// Makes a map from the token of every step.
    ///
    /// # Errors
    /// [`KernelError::TokenMap`] if `tokens` does not hold each of `0..tokens.len()` once.
    pub fn new(tokens: Vec<u32>) -> Result<Self, KernelError> {
        let len = tokens.len();
        let mut seen = vec![false; len];
        for (step, &token) in tokens.iter().enumerate() {
            let problem = match seen.get_mut(token as usize) {
                Some(seen) if !*seen => {
                    *seen = true;
                    continue;
                }
                Some(_) => "which came before",
                None => "which is out of range",
            };
            return Err(KernelError::TokenMap { len, step, got: token, problem });
        }
        Ok(Self::of(tokens.into()))
    }

    /// The stored order itself.
    ///
    /// # Panics
    /// If `len` exceeds `u32::MAX`, the longest sequence a map can hold.
    #[must_use]
    pub fn identity(len: usize) -> Self {
        let len = u32::try_from(len).expect("a sequence has fewer than 2^32 tokens");
        Self::of((0..len).collect())
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the map is that of an empty sequence.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token of every step.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.tokens
    }

    /// The step of every token: `inverse.as_slice()[map.as_slice()[l]] == l`.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut steps = vec![0; self.len()];
        for (step, &token) in (0..).zip(self.tokens.iter()) {
            steps[token as usize] = step;
        }
        Self::of(steps.into())
    }

    /// The tokens in the memory of the stream's device, copied there on the map's first use.
    pub(crate) fn on_device(&self, stream: &Stream) -> Result<*const u32, KernelError> {
        self.on_devices.get(stream, &self.tokens)
    }

    fn of(tokens: Arc<[u32]>) -> Self {
        Self { tokens, on_devices: Arc::default() }
    }
}
