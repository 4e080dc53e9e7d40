//! What one forward pass costs: every matrix product is counted.

/// Multiply-accumulates of one image's forward pass in matrix products, by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What the part is called, and its multiply-accumulates.
    pub parts: Vec<(&'static str, u64)>,
}

impl Cost {
    /// The cost with one more part.
    pub(crate) fn and(mut self, part: &'static str, multiply_accumulates: usize) -> Self {
        self.parts.push((part, multiply_accumulates as u64));
        self
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(_, multiply_accumulates)| multiply_accumulates).sum()
    }
}
