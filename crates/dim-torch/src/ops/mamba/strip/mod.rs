//! A Mamba layer over a sequence of which every process has a strip: one image's tokens over several GPUs.
//!
//! The scan is linear in its state: a strip makes `exp(A Δ) h + own` of the state h that it starts from, with Δ the sum of its step
//! sizes and `own` what it makes of zeros. Each process walks its strip from zeros, all tell each other own and Δ, `channels · (states + 1)` numbers
//! however long the strips are, and each goes on from the state that the strips before it come to. The convolution needs of the strip before the
//! last `width − 1` tokens alone; they leave before the first product and arrive while it is computed.
//!
//! The way back is the same from the end: each walks its strip back for what its outputs bring to the gradient by its first state, all tell each other, and
//! each goes back from the gradient by its last state that the strips behind it come to: `exp(A Δ) g + own` again, with the same Δ. That way the gradients
//! of A and of the step sizes through what is handed over are those of the scan's own backward pass. The gradient by the tokens that the convolution took from
//! the strip before goes there.

mod edges;
mod scan;

use tch::Tensor;

use super::kernels::{ScanGradients, ScanTensors, VectorGradients, Vectors};
use super::sequence::Sequence;
use crate::{
    TokenMap, TorchError,
    distributed::{Pending, World},
};

/// A process's part of a sequence: the tokens of the prefix, which come first and which every process has, and then its strip.
pub struct Strip {
    /// Tokens of the prefix.
    pub prefix: i64,
    /// The order of prefix and strip.
    pub token_map: TokenMap,
    /// The order of the strip, whose first token has number 0.
    pub strip_map: TokenMap,
    /// Where the strip's first tokens stand behind the prefix, in their order: `[width − 1]`, i64, for a convolution of that width.
    pub first: Tensor,
    /// The same of its last tokens.
    pub last: Tensor,
    /// The ranks whose strips come before, in their order.
    pub before: Vec<usize>,
    /// Those whose strips come behind, in their order.
    pub behind: Vec<usize>,
}

impl Strip {
    /// The same strip, with the same memory.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            prefix: self.prefix,
            token_map: self.token_map.clone(),
            strip_map: self.strip_map.clone(),
            first: self.first.shallow_clone(),
            last: self.last.shallow_clone(),
            before: self.before.clone(),
            behind: self.behind.clone(),
        }
    }
}

/// This process's strip, and the others.
pub(super) struct OfStrip {
    pub(super) strip: Strip,
    pub(super) world: World,
}

impl Sequence for OfStrip {
    const NAME: &'static str = "mamba_of_strip";
    const KEPT_OF_CONVOLUTION: usize = 1;
    const KEPT_OF_SCAN: usize = 2;
    type Coming = Option<(Tensor, Pending)>;

    fn begin(&self, input: &Tensor, in_proj: &Tensor) -> Result<Self::Coming, TorchError> {
        self.send_edge(input, in_proj)
    }

    fn convolve(
        &self,
        coming: Self::Coming,
        x: &Tensor,
        vectors: &Vectors,
    ) -> Result<(Tensor, Vec<Tensor>), TorchError> {
        let mut u = vectors.convolve(x, Some(&self.strip.token_map))?;
        let edge = self.edge_before(coming, x)?;
        self.convolve_behind(&edge, x, vectors, &mut u)?;
        Ok((u, vec![edge]))
    }

    fn convolve_again(&self, x: &Tensor, vectors: &Vectors, kept: &[Tensor]) -> Result<Tensor, TorchError> {
        let mut u = vectors.convolve(x, Some(&self.strip.token_map))?;
        self.convolve_behind(&kept[0], x, vectors, &mut u)?;
        Ok(u)
    }

    fn convolve_backward(
        &self,
        x: &Tensor,
        vectors: &Vectors,
        kept: &[Tensor],
        grad_u: Tensor,
        grad_x: &mut Tensor,
    ) -> Result<[Tensor; 2], TorchError> {
        self.convolve_strip_backward(x, vectors, &kept[0], grad_u, grad_x)
    }

    fn scan(&self, tensors: &ScanTensors, vectors: &Vectors) -> Result<(Tensor, Vec<Tensor>), TorchError> {
        let (y, start, steps) = self.scan_strip(tensors, vectors)?;
        Ok((y, vec![start, steps]))
    }

    fn scan_again(&self, tensors: &ScanTensors, vectors: &Vectors, kept: &[Tensor]) -> Result<Tensor, TorchError> {
        self.scan_strip_from(tensors, vectors, &kept[0])
    }

    fn scan_backward(
        &self,
        tensors: &ScanTensors,
        vectors: &Vectors,
        kept: &[Tensor],
        grad_y: &Tensor,
        into: ScanGradients,
    ) -> Result<VectorGradients, TorchError> {
        self.scan_strip_backward(tensors, vectors, (&kept[0], &kept[1]), grad_y, &into)
    }
}
