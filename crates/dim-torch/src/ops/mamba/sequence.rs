//! What a layer's tokens are: a whole sequence, or a process's part of one.

use tch::Tensor;

use super::kernels::{GradientsOfEnds, ScanGradients, ScanTensors, VectorGradients, Vectors, empty};
use crate::{TokenMap, TorchError};

/// The two steps of a layer in which tokens see each other. Each may keep tensors for its way back, always as many.
pub(super) trait Sequence: Send + 'static {
    /// The name of the operation, for errors.
    const NAME: &'static str;
    /// Tensors that the convolution keeps beside its input.
    const KEPT_OF_CONVOLUTION: usize;
    /// Tensors that the scan keeps beside its inputs.
    const KEPT_OF_SCAN: usize;
    /// What is on its way while the first product is computed.
    type Coming;

    /// Before the first product, of `input` with `in_proj`, whose first half of rows gives x.
    fn begin(&self, input: &Tensor, in_proj: &Tensor) -> Result<Self::Coming, TorchError>;

    /// u of x, and what is kept.
    fn convolve(
        &self,
        coming: Self::Coming,
        x: &Tensor,
        vectors: &Vectors,
    ) -> Result<(Tensor, Vec<Tensor>), TorchError>;

    /// u again.
    fn convolve_again(&self, x: &Tensor, vectors: &Vectors, kept: &[Tensor]) -> Result<Tensor, TorchError>;

    /// Overwrites `grad_x`, and `grad_u` as it likes; returns the gradients of weight and bias.
    fn convolve_backward(
        &self,
        x: &Tensor,
        vectors: &Vectors,
        kept: &[Tensor],
        grad_u: Tensor,
        grad_x: &mut Tensor,
    ) -> Result<[Tensor; 2], TorchError>;

    /// y, and what is kept.
    fn scan(&self, tensors: &ScanTensors, vectors: &Vectors) -> Result<(Tensor, Vec<Tensor>), TorchError>;

    /// y again.
    fn scan_again(&self, tensors: &ScanTensors, vectors: &Vectors, kept: &[Tensor]) -> Result<Tensor, TorchError>;

    /// Overwrites `into`.
    fn scan_backward(
        &self,
        tensors: &ScanTensors,
        vectors: &Vectors,
        kept: &[Tensor],
        grad_y: &Tensor,
        into: ScanGradients,
    ) -> Result<VectorGradients, TorchError>;
}

/// A whole sequence, walked along the map.
pub(super) struct Whole(pub(super) Option<TokenMap>);

impl Sequence for Whole {
    const NAME: &'static str = super::NAME;
    const KEPT_OF_CONVOLUTION: usize = 0;
    const KEPT_OF_SCAN: usize = 0;
    type Coming = ();

    fn begin(&self, _input: &Tensor, _in_proj: &Tensor) -> Result<(), TorchError> {
        Ok(())
    }

    fn convolve(&self, (): (), x: &Tensor, vectors: &Vectors) -> Result<(Tensor, Vec<Tensor>), TorchError> {
        Ok((vectors.convolve(x, self.0.as_ref())?, Vec::new()))
    }

    fn convolve_again(&self, x: &Tensor, vectors: &Vectors, _kept: &[Tensor]) -> Result<Tensor, TorchError> {
        vectors.convolve(x, self.0.as_ref())
    }

    fn convolve_backward(
        &self,
        x: &Tensor,
        vectors: &Vectors,
        _kept: &[Tensor],
        grad_u: Tensor,
        grad_x: &mut Tensor,
    ) -> Result<[Tensor; 2], TorchError> {
        vectors.convolve_backward(x, self.0.as_ref(), &grad_u, grad_x)
    }

    fn scan(&self, tensors: &ScanTensors, vectors: &Vectors) -> Result<(Tensor, Vec<Tensor>), TorchError> {
        Ok((self.scan_again(tensors, vectors, &[])?, Vec::new()))
    }

    fn scan_again(&self, tensors: &ScanTensors, vectors: &Vectors, _kept: &[Tensor]) -> Result<Tensor, TorchError> {
        let mut y = empty(&tensors.u)?;
        tensors.run(&tensors.arguments(vectors, self.0.as_ref(), None)?, &mut y, None)?;
        Ok(y)
    }

    fn scan_backward(
        &self,
        tensors: &ScanTensors,
        vectors: &Vectors,
        _kept: &[Tensor],
        grad_y: &Tensor,
        into: ScanGradients,
    ) -> Result<VectorGradients, TorchError> {
        let scan = tensors.arguments(vectors, self.0.as_ref(), None)?;
        tensors.backward(&scan, vectors, grad_y, GradientsOfEnds::default(), into)
    }
}
