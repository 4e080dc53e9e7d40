//! Parts of a network that keep their inputs alone for the backward pass, and run again in it. Source: Chen et al. 2016,
//! "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174).

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{
    TorchError,
    custom_function::{CustomFunction, Forward, apply},
    ffi,
};

/// Runs `segment` on `inputs` without keeping anything that it computes on the way; backward runs it again. Its outputs and all
/// gradients are those of the plain call, provided that it computes the same twice. At most 8 outputs.
///
/// Parameters that the segment uses by itself get their gradients as always, added to their `.grad`. On a GPU, the second run is
/// on autograd's own thread.
///
/// # Errors
/// What `segment` returns; in backward it becomes an error of libtorch's backward pass.
pub fn checkpoint(
    inputs: &[&Tensor],
    segment: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, TorchError> + Send + 'static,
) -> Result<Vec<Tensor>, TorchError> {
    checkpoint_holding(inputs, || Ok(()), segment)
}

/// The same of a segment that works while what `hold` returns is alive, in both runs; in the second until its gradients are computed.
///
/// # Errors
/// As [`checkpoint`], and what `hold` returns.
pub fn checkpoint_holding<H>(
    inputs: &[&Tensor],
    hold: impl Fn() -> Result<H, TorchError> + Send + 'static,
    segment: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, TorchError> + Send + 'static,
) -> Result<Vec<Tensor>, TorchError> {
    apply(Checkpoint { hold, segment }, inputs)
}

struct Checkpoint<H, S> {
    hold: H,
    segment: S,
}

impl<H, T, S> CustomFunction for Checkpoint<H, S>
where
    H: Fn() -> Result<T, TorchError> + Send + 'static,
    S: Fn(&[Tensor]) -> Result<Vec<Tensor>, TorchError> + Send + 'static,
{
    const NAME: &'static str = "checkpoint";

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let _held = (self.hold)()?;
        let outputs = (self.segment)(inputs)?;
        Ok(Forward { outputs, saved: inputs.iter().map(Tensor::shallow_clone).collect() })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        // Leaves of a graph of their own, which lives as long as this call.
        let leaves: Vec<Tensor> =
            saved.iter().zip(needs_gradient).map(|(input, needed)| input.detach().set_requires_grad(*needed)).collect();
        let _held = (self.hold)()?;
        let outputs = tch::with_grad(|| (self.segment)(&leaves))?;
        let (mut of, mut from) = (Vec::new(), Vec::new());
        for (output, gradient) in outputs.iter().zip(grad_outputs) {
            if let Some(gradient) = gradient.as_ref().filter(|_| output.requires_grad()) {
                of.push(output.as_ptr());
                from.push(gradient.as_ptr());
            }
        }
        backward(&of, &from)?;
        let gradient =
            |(leaf, needed): (&Tensor, &bool)| Some(leaf.grad()).filter(|gradient| *needed && gradient.defined());
        Ok(leaves.iter().zip(needs_gradient).map(gradient).collect())
    }
}

fn backward(outputs: &[*const C_tensor], gradients: &[*const C_tensor]) -> Result<(), TorchError> {
    // SAFETY: both lists hold as many handles, of tensors that the caller keeps alive for the call.
    ffi::check(unsafe { ffi::dim_backward(outputs.as_ptr(), gradients.as_ptr(), outputs.len()) })
}
