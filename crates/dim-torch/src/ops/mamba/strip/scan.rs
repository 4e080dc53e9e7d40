//! The scan of a strip: from the state that the strips before it come to, and back from the gradient that those behind it come to.

use dim_kernels::selective_scan;
use tch::{Kind, Tensor};

use super::super::NAME;
use super::super::kernels::{GradientsOfEnds, ScanGradients, ScanTensors, VectorGradients, Vectors, empty};
use super::OfStrip;
use crate::{
    TorchError,
    bridge::{queue, view, view_in_place, view_mut},
};

impl OfStrip {
    /// y, `[batch, token, channel]`; the state that the strip starts from, `[batch, channel, state]`; and of every strip the sum of its step sizes,
    /// `[process, batch, channel]`.
    pub(super) fn scan_strip(
        &self,
        tensors: &ScanTensors,
        vectors: &Vectors,
    ) -> Result<(Tensor, Tensor, Tensor), TorchError> {
        let (queue, strip) = (queue(&tensors.u)?, &self.strip);
        let own = self.strip_of(tensors)?;
        let from_zeros = own.arguments(vectors, Some(&strip.strip_map), None)?;
        let mut walked = Walked::unwritten(&own, selective_scan::segments(&queue, &from_zeros)?)?;
        let ends = view_mut(NAME, "states", &mut walked.ends)?;
        selective_scan::walk(&queue, &from_zeros, ends, view_mut(NAME, "deltas", &mut walked.steps)?)?;
        let (all, pending) = self.world.all_told(&walked.forward()?)?;

        let mut y = empty(&tensors.u)?;
        let mut state = self.scan_prefix(tensors, vectors, &mut y)?;
        pending.wait()?;
        let states = state.size()[2];
        let steps = all.f_select(-1, states)?;
        for &rank in &strip.before {
            let own = all.f_get(rank as i64)?.f_narrow(-1, 0, states)?;
            state = after(&own, &steps.f_get(rank as i64)?, &tensors.a, &state)?;
        }
        walked.start_from(&state)?;
        let mut out = y.f_narrow(1, strip.prefix, own.u.size()[1])?;
        // SAFETY: no other handle of this memory is used any more.
        let ends = unsafe { view_in_place(NAME, "states", &walked.ends)? };
        selective_scan::forward_after_walk(
            &queue,
            &own.arguments(vectors, Some(&strip.strip_map), Some(&state))?,
            ends,
            &view(NAME, "deltas", &walked.steps)?,
            view_mut(NAME, "y", &mut out)?,
        )?;
        Ok((y, state, steps.f_contiguous()?))
    }

    /// y again, of a strip that starts from a known state.
    pub(super) fn scan_strip_from(
        &self,
        tensors: &ScanTensors,
        vectors: &Vectors,
        start: &Tensor,
    ) -> Result<Tensor, TorchError> {
        let mut y = empty(&tensors.u)?;
        let _ = self.scan_prefix(tensors, vectors, &mut y)?;
        let own = self.strip_of(tensors)?;
        let mut out = y.f_narrow(1, self.strip.prefix, own.u.size()[1])?;
        own.run(&own.arguments(vectors, Some(&self.strip.strip_map), Some(start))?, &mut out, None)?;
        Ok(y)
    }

    /// Overwrites `into`; `start` and `steps` are those of [`Self::scan_strip`].
    pub(super) fn scan_strip_backward(
        &self,
        tensors: &ScanTensors,
        vectors: &Vectors,
        (start, steps): (&Tensor, &Tensor),
        grad_y: &Tensor,
        into: &ScanGradients,
    ) -> Result<VectorGradients, TorchError> {
        let (queue, strip) = (queue(&tensors.u)?, &self.strip);
        let own = self.strip_of(tensors)?;
        let count = own.u.size()[1];
        let of_own = grad_y.f_narrow(1, strip.prefix, count)?;
        let from_zeros = own.arguments(vectors, Some(&strip.strip_map), None)?;
        let mut walked = Walked::unwritten(&own, selective_scan::segments(&queue, &from_zeros)?)?;
        let ends = view_mut(NAME, "grad_states", &mut walked.ends)?;
        let sums = view_mut(NAME, "deltas", &mut walked.steps)?;
        selective_scan::walk_back(&queue, &from_zeros, &view(NAME, "grad y", &of_own)?, ends, sums)?;
        let (all, pending) = self.world.all_told(&walked.backward()?)?;
        pending.wait()?;
        let mut last: Option<Tensor> = None;
        for rank in strip.behind.iter().rev().map(|&rank| rank as i64) {
            let own = all.f_get(rank)?;
            last = Some(match last {
                None => own,
                Some(behind) => after(&own, &steps.f_get(rank)?, &tensors.a, &behind)?,
            });
        }

        let mut first = empty(start)?;
        let ends = GradientsOfEnds { last_state: last.as_ref(), initial_state: Some(&mut first) };
        let scan = own.arguments(vectors, Some(&strip.strip_map), Some(start))?;
        let of_strip = own.backward(&scan, vectors, &of_own, ends, into.tokens(strip.prefix, count)?)?;
        // The prefix of the first strip is the one that the sequence starts with; the others' are copies, whose last states nobody goes on from.
        let ends = GradientsOfEnds { last_state: strip.before.is_empty().then_some(&first), initial_state: None };
        let prefix = tensors.tokens(0, strip.prefix)?;
        let (scan, of_prefix) = (prefix.arguments(vectors, None, None)?, grad_y.f_narrow(1, 0, strip.prefix)?);
        prefix.backward(&scan, vectors, &of_prefix, ends, into.tokens(0, strip.prefix)?)?.plus(&of_strip)
    }

    fn strip_of(&self, tensors: &ScanTensors) -> Result<ScanTensors, TorchError> {
        tensors.tokens(self.strip.prefix, tensors.u.size()[1] - self.strip.prefix)
    }

    /// Writes the prefix's part of `y`; returns the state after it.
    fn scan_prefix(&self, tensors: &ScanTensors, vectors: &Vectors, y: &mut Tensor) -> Result<Tensor, TorchError> {
        let prefix = tensors.tokens(0, self.strip.prefix)?;
        let (batch, _, channels) = tensors.u.size3()?;
        let mut state = Tensor::f_empty([batch, channels, tensors.a.size()[1]], (Kind::Float, y.device()))?;
        let mut out = y.f_narrow(1, 0, self.strip.prefix)?;
        prefix.run(&prefix.arguments(vectors, None, None)?, &mut out, Some(&mut state))?;
        Ok(state)
    }
}

/// `exp(A Δ)`, `[…, channel, state]`, of sums of step sizes, `[…, channel]`.
fn decay(steps: &Tensor, a: &Tensor) -> Result<Tensor, TorchError> {
    Ok(steps.f_unsqueeze(-1)?.f_mul(a)?.f_exp_()?)
}

/// What a strip with these `steps` that makes `own` of zeros makes of `state`, `[batch, channel, state]`; or of a gradient, on the way back.
fn after(own: &Tensor, steps: &Tensor, a: &Tensor, state: &Tensor) -> Result<Tensor, TorchError> {
    Ok(decay(steps, a)?.f_mul_(state)?.f_add_(own)?)
}

/// What the segments of a strip make of the states that they start from, or of the gradients that they end with.
struct Walked {
    /// `[channel, state]`
    a: Tensor,
    /// `[batch · segment, channel, state]`: what each makes of zeros.
    ends: Tensor,
    /// `[batch · segment, channel]`: the sum of each one's step sizes.
    steps: Tensor,
    batch: i64,
}

impl Walked {
    fn unwritten(own: &ScanTensors, segments: usize) -> Result<Self, TorchError> {
        let (batch, _, channels) = own.u.size3()?;
        let (rows, states) = (batch * segments as i64, own.a.size()[1]);
        let f32 = |size: &[i64]| Tensor::f_empty(size, (Kind::Float, own.u.device()));
        let (ends, steps) = (f32(&[rows, channels, states])?, f32(&[rows, channels])?);
        Ok(Self { a: own.a.shallow_clone(), ends, steps, batch })
    }

    /// Ends and steps by sequence and segment.
    fn by_sequence(&self) -> Result<(Tensor, Tensor), TorchError> {
        let by_sequence = |tensor: &Tensor| tensor.f_unflatten(0, [self.batch, -1]);
        Ok((by_sequence(&self.ends)?, by_sequence(&self.steps)?))
    }

    /// What the whole strip makes of zeros, and beside its states the sum of its step sizes: `[batch, channel, state + 1]`.
    fn forward(&self) -> Result<Tensor, TorchError> {
        let (ends, steps) = self.by_sequence()?;
        let segments = ends.size()[1];
        if segments == 1 {
            return Ok(Tensor::f_cat(&[ends.f_select(1, 0)?, steps.f_transpose(1, 2)?], -1)?);
        }
        // Every segment's end decays over all segments behind it.
        let none = steps.f_narrow(1, 0, 1)?.f_zeros_like()?;
        let sums = steps.f_flip([1])?.f_cumsum(1, Kind::Float)?;
        let behind = Tensor::f_cat(&[none, sums.f_narrow(1, 0, segments - 1)?], 1)?.f_flip([1])?;
        let ends = decay(&behind, &self.a)?.f_mul(&ends)?.f_sum_dim_intlist(1, false, Kind::Float)?;
        Ok(Tensor::f_cat(&[ends, sums.f_narrow(1, segments - 1, 1)?.f_transpose(1, 2)?], -1)?)
    }

    /// What the whole strip brings to the gradient by its first state: `[batch, channel, state]`.
    fn backward(&self) -> Result<Tensor, TorchError> {
        let (ends, steps) = self.by_sequence()?;
        let segments = ends.size()[1];
        if segments == 1 {
            return Ok(ends.f_select(1, 0)?);
        }
        // Every segment's gradient decays over all segments before it.
        let none = steps.f_narrow(1, 0, 1)?.f_zeros_like()?;
        let sums = steps.f_narrow(1, 0, segments - 1)?.f_cumsum(1, Kind::Float)?;
        let before = Tensor::f_cat(&[none, sums], 1)?;
        Ok(decay(&before, &self.a)?.f_mul_(&ends)?.f_sum_dim_intlist(1, false, Kind::Float)?)
    }

    /// Adds to the end of the first segment what becomes of the first `state`.
    fn start_from(&self, state: &Tensor) -> Result<(), TorchError> {
        let (ends, steps) = self.by_sequence()?;
        let _ = ends.f_select(1, 0)?.f_addcmul_(&decay(&steps.f_select(1, 0)?, &self.a)?, state)?;
        Ok(())
    }
}
