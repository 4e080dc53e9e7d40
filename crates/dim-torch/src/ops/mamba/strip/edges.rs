//! The convolution of a strip: what it sees of the strip before, and the gradient that goes back there.

use tch::Tensor;

use super::super::kernels::{Vectors, empty};
use super::super::product;
use super::OfStrip;
use crate::{TorchError, distributed::Pending};

impl OfStrip {
    /// Whether the convolution looks at tokens before its own.
    fn looks_back(&self) -> bool {
        self.strip.last.size() != [0]
    }

    /// Sends x of the strip's last tokens to all: `[process, batch, width − 1, channel]`.
    pub(super) fn send_edge(&self, input: &Tensor, in_proj: &Tensor) -> Result<Option<(Tensor, Pending)>, TorchError> {
        if !self.looks_back() {
            return Ok(None);
        }
        let of_x = in_proj.f_narrow(0, 0, in_proj.size()[0] / 2)?;
        self.world.all_told(&product(&input.f_index_select(1, &self.strip.last)?, &of_x, None)?).map(Some)
    }

    /// x of the last tokens of the strip before, `[batch, width − 1, channel]`; empty where nothing is to be seen of any.
    pub(super) fn edge_before(&self, coming: Option<(Tensor, Pending)>, x: &Tensor) -> Result<Tensor, TorchError> {
        let Some((all, pending)) = coming else { return none(x) };
        pending.wait()?;
        match self.strip.before.last() {
            // A copy: it may be kept for the backward pass, all of them need not.
            Some(&previous) => Ok(all.f_get(previous as i64)?.copy()),
            None => none(x),
        }
    }

    /// Replaces u of the strip's first tokens, which have seen the prefix before them, by that behind the strip before.
    pub(super) fn convolve_behind(
        &self,
        edge: &Tensor,
        x: &Tensor,
        vectors: &Vectors,
        u: &mut Tensor,
    ) -> Result<(), TorchError> {
        if edge.numel() == 0 {
            return Ok(());
        }
        let (first, count) = (&self.strip.first, self.strip.first.size()[0]);
        let of_first = vectors.convolve(&self.behind_edge(edge, x)?, None)?.f_narrow(1, count, count)?;
        let _ = u.f_index_copy_(1, first, &of_first)?;
        Ok(())
    }

    /// The edge and the strip's first tokens.
    fn behind_edge(&self, edge: &Tensor, x: &Tensor) -> Result<Tensor, TorchError> {
        Ok(Tensor::f_cat(&[edge.shallow_clone(), x.f_index_select(1, &self.strip.first)?], 1)?)
    }

    pub(super) fn convolve_strip_backward(
        &self,
        x: &Tensor,
        vectors: &Vectors,
        edge: &Tensor,
        mut grad_u: Tensor,
        grad_x: &mut Tensor,
    ) -> Result<[Tensor; 2], TorchError> {
        let whole = |grad_u: &Tensor, grad_x: &mut Tensor| {
            vectors.convolve_backward(x, Some(&self.strip.token_map), grad_u, grad_x)
        };
        if !self.looks_back() {
            return whole(&grad_u, grad_x);
        }
        let (batch, _, channels) = x.size3()?;
        let (first, count) = (&self.strip.first, self.strip.first.size()[0]);
        let behind_edge = if edge.numel() == 0 {
            None
        } else {
            let near = self.behind_edge(edge, x)?;
            let of_first = grad_u.f_index_select(1, first)?;
            let _ = grad_u.f_index_fill_(1, first, 0.0)?;
            let grad_near_u = Tensor::f_cat(&[of_first.f_zeros_like()?, of_first], 1)?;
            let mut grad_near = empty(&near)?;
            let vectors = vectors.convolve_backward(&near, None, &grad_near_u, &mut grad_near)?;
            Some((grad_near, vectors))
        };
        // To the strip before goes the gradient by the tokens that were seen of it; all of it is under way while the strip's own is computed.
        let outward = match &behind_edge {
            Some((grad_near, _)) => grad_near.f_narrow(1, 0, count)?.f_contiguous()?,
            None => Tensor::f_zeros([batch, count, channels], (x.kind(), x.device()))?,
        };
        let (all, pending) = self.world.all_told(&outward)?;
        let [mut grad_weight, mut grad_bias] = whole(&grad_u, grad_x)?;
        if let Some((grad_near, [near_weight, near_bias])) = behind_edge {
            let _ = grad_x.f_index_add_(1, first, &grad_near.f_narrow(1, count, count)?)?;
            let _ = (grad_weight.f_add_(&near_weight)?, grad_bias.f_add_(&near_bias)?);
        }
        pending.wait()?;
        if let Some(&next) = self.strip.behind.first() {
            let _ = grad_x.f_index_add_(1, &self.strip.last, &all.f_get(next as i64)?)?;
        }
        Ok([grad_weight, grad_bias])
    }
}

/// No edge.
fn none(x: &Tensor) -> Result<Tensor, TorchError> {
    Ok(Tensor::f_empty([0], (x.kind(), x.device()))?)
}
