//! A Mamba layer over a sequence of which every process has a strip: one image's tokens over several GPUs.
//!
//! The scan is linear in its state: a strip makes `exp(A Δ) h + own` of the state h that it starts from, with Δ the sum of its step
//! sizes and `own` what it makes of zeros. Each process walks its strip from zeros, all tell each other own and Δ, `channels · (states + 1)` numbers
//! however long the strips are, and each goes on from the state that the strips before it come to. The convolution needs of the strip before the
//! last `width − 1` tokens alone; they leave before the first product and arrive while it is computed.

use dim_kernels::selective_scan::{self, SelectiveScan};
use tch::{Kind, Tensor};

use super::{CausalConv1dInputs, MambaInputs, Projection, causal_conv1d, linear};
use crate::{
    TokenMap, TorchError,
    bridge::{queue, view, view_in_place, view_mut},
    distributed::{Pending, World},
};

const NAME: &str = "mamba_of_strip";

/// A process's part of a sequence: the tokens of the prefix, which come first and which every process has, and then its strip.
#[derive(Clone, Copy)]
pub struct Strip<'a> {
    /// Tokens of the prefix.
    pub prefix: i64,
    /// The order of prefix and strip.
    pub token_map: &'a TokenMap,
    /// The order of the strip, whose first token has number 0.
    pub strip_map: &'a TokenMap,
    /// Where the strip's first tokens stand behind the prefix, in their order: `[width − 1]`, i64, for a convolution of that width.
    pub first: &'a Tensor,
    /// The same of its last tokens.
    pub last: &'a Tensor,
    /// The ranks whose strips come before, in their order.
    pub before: &'a [usize],
}

/// The layer's output for this process's part, `[batch, token, d_model]`, without gradients. All processes call it together.
///
/// # Errors
/// A shape, type or device that a kernel does not take, named in the error; inputs that need gradients; [`TorchError::LostPeer`].
pub fn mamba_of_strip(inputs: &MambaInputs, strip: &Strip, world: &World) -> Result<Tensor, TorchError> {
    if inputs.input.requires_grad() {
        return Err(TorchError::Argument {
            operation: NAME,
            argument: "input",
            expected: "without gradients: sequences are split for sampling alone".to_owned(),
            got: "one that needs them".to_owned(),
        });
    }
    let (channels, states) = inputs.a_log.size2()?;
    let rank = inputs.dt_proj.weight.size()[1];
    let columns = |tensor: &Tensor, first, count| tensor.f_narrow(-1, first, count);
    let edge = Edge::send(inputs, strip, world, channels)?;
    let xz = linear(inputs.input, inputs.in_proj, None)?;
    let u = edge.convolve(&columns(&xz, 0, channels)?)?;
    let projected = linear(&u, inputs.x_proj, None)?;
    let delta = linear(&columns(&projected, 0, rank)?, inputs.dt_proj, None)?;
    let scan = Scan {
        inputs,
        b: columns(&projected, rank, states)?,
        c: columns(&projected, rank + states, states)?,
        z: columns(&xz, channels, channels)?,
        u,
        delta,
    };
    linear(&scan.run(strip, world)?, inputs.out_proj, None)
}

/// The tokens at the edges of strips, on their way to the strips behind.
struct Edge<'a> {
    inputs: &'a MambaInputs<'a>,
    strip: &'a Strip<'a>,
    /// `[process, batch, width − 1, channel]`; `None` for a convolution that looks at no token before.
    sent: Option<(Tensor, Pending)>,
}

impl<'a> Edge<'a> {
    fn send(inputs: &'a MambaInputs, strip: &'a Strip, world: &World, channels: i64) -> Result<Self, TorchError> {
        if strip.last.size() == [0] {
            return Ok(Self { inputs, strip, sent: None });
        }
        let Projection { weight, computed } = inputs.in_proj;
        let of_x =
            Projection { weight: &weight.f_narrow(0, 0, channels)?, computed: &computed.f_narrow(0, 0, channels)? };
        let own = linear(&inputs.input.f_index_select(1, strip.last)?, of_x, None)?;
        let all = Tensor::f_empty([&[world.size() as i64], &own.size()[..]].concat(), (own.kind(), own.device()))?;
        let pending = world.all_gather(&all, &own)?;
        Ok(Self { inputs, strip, sent: Some((all, pending)) })
    }

    /// The convolution of `x`, `[batch, token, channel]`.
    fn convolve(self, x: &Tensor) -> Result<Tensor, TorchError> {
        let of = |x: &Tensor, token_map| {
            let inputs = self.inputs;
            let (weight, bias) = (inputs.conv_weight, Some(inputs.conv_bias));
            causal_conv1d(&CausalConv1dInputs { x, weight, bias, silu: true }, token_map)
        };
        let mut u = of(x, Some(self.strip.token_map))?;
        let Some((all, pending)) = self.sent else { return Ok(u) };
        pending.wait()?;
        let Some(&previous) = self.strip.before.last() else { return Ok(u) };
        // The first tokens of the strip have seen the prefix before them: they are computed again, behind the strip before.
        let (first, count) = (self.strip.first, self.strip.first.size()[0]);
        let near = Tensor::f_cat(&[all.f_get(previous as i64)?, x.f_index_select(1, first)?], 1)?;
        let _ = u.f_index_copy_(1, first, &of(&near, None)?.f_narrow(1, count, count)?)?;
        Ok(u)
    }
}

/// What the scan reads, of prefix and strip.
struct Scan<'a> {
    inputs: &'a MambaInputs<'a>,
    u: Tensor,
    delta: Tensor,
    b: Tensor,
    c: Tensor,
    z: Tensor,
}

impl Scan<'_> {
    /// Those of some neighbouring tokens.
    fn tokens(&self, first: i64, count: i64) -> Result<Self, TorchError> {
        let part = |tensor: &Tensor| tensor.f_narrow(1, first, count);
        let [u, delta] = [part(&self.u)?, part(&self.delta)?];
        Ok(Scan { inputs: self.inputs, u, delta, b: part(&self.b)?, c: part(&self.c)?, z: part(&self.z)? })
    }

    fn arguments<'a>(
        &'a self,
        token_map: Option<&'a TokenMap>,
        initial_state: Option<&'a Tensor>,
    ) -> Result<SelectiveScan<'a>, TorchError> {
        Ok(SelectiveScan {
            u: view(NAME, "u", &self.u)?,
            delta: view(NAME, "delta", &self.delta)?,
            a: view(NAME, "a", self.inputs.a)?,
            b: view(NAME, "b", &self.b)?,
            c: view(NAME, "c", &self.c)?,
            d: Some(view(NAME, "d", self.inputs.d)?),
            z: Some(view(NAME, "z", &self.z)?),
            delta_bias: Some(view(NAME, "delta_bias", self.inputs.delta_bias)?),
            initial_state: initial_state.map(|state| view(NAME, "initial_state", state)).transpose()?,
            delta_softplus: true,
            token_map,
        })
    }

    /// The output, `[batch, token, channel]`.
    fn run(&self, strip: &Strip, world: &World) -> Result<Tensor, TorchError> {
        let queue = queue(&self.u)?;
        let (batch, tokens, channels) = self.u.size3()?;
        let states = self.inputs.a.size()[1];
        let f32 = |size: &[i64]| Tensor::f_empty(size, (Kind::Float, self.u.device()));
        let y = Tensor::f_empty([batch, tokens, channels], (self.u.kind(), self.u.device()))?;

        let own = self.tokens(strip.prefix, tokens - strip.prefix)?;
        let from_zeros = own.arguments(Some(strip.strip_map), None)?;
        let segments = selective_scan::segments(&queue, &from_zeros)? as i64;
        let mut ends = f32(&[batch * segments, channels, states])?;
        let mut steps = f32(&[batch * segments, channels])?;
        let ends_view = view_mut(NAME, "states", &mut ends)?;
        selective_scan::walk(&queue, &from_zeros, ends_view, view_mut(NAME, "deltas", &mut steps)?)?;
        let walked = Walked { a: self.inputs.a, ends: ends.f_view([batch, segments, channels, states])?, steps };
        let (all, pending) = walked.send(world)?;

        let prefix = self.tokens(0, strip.prefix)?;
        let mut state = f32(&[batch, channels, states])?;
        let mut out = y.f_narrow(1, 0, strip.prefix)?;
        let last_state = Some(view_mut(NAME, "last_state", &mut state)?);
        selective_scan::forward(&queue, &prefix.arguments(None, None)?, view_mut(NAME, "y", &mut out)?, last_state)?;

        pending.wait()?;
        for &rank in strip.before {
            state = walked.after(&all.f_get(rank as i64)?, &state)?;
        }
        walked.start_from(&state)?;
        let mut out = y.f_narrow(1, strip.prefix, tokens - strip.prefix)?;
        // SAFETY: the other handle of this memory, in `walked`, is not used any more.
        let ends = unsafe { view_in_place(NAME, "states", &ends)? };
        selective_scan::forward_after_walk(
            &queue,
            &own.arguments(Some(strip.strip_map), Some(&state))?,
            ends,
            &view(NAME, "deltas", &walked.steps)?,
            view_mut(NAME, "y", &mut out)?,
        )?;
        Ok(y)
    }
}

/// What the segments of a strip make of the states that they start from.
struct Walked<'a> {
    /// `[channel, state]`
    a: &'a Tensor,
    /// `[batch, segment, channel, state]`: what each makes of zeros.
    ends: Tensor,
    /// `[batch · segment, channel]`: the sum of each one's step sizes.
    steps: Tensor,
}

impl Walked<'_> {
    /// Tells all processes what the whole strip makes of zeros, and beside its states the sum of its step sizes: `[process, batch, channel, state + 1]`.
    fn send(&self, world: &World) -> Result<(Tensor, Pending), TorchError> {
        let (batch, segments, channels, states) = self.ends.size4()?;
        let steps = self.steps.f_view([batch, segments, channels])?;
        let own = if segments == 1 {
            Tensor::f_cat(&[self.ends.f_select(1, 0)?, steps.f_transpose(1, 2)?], -1)?
        } else {
            // Every segment's end decays over all segments behind it.
            let none = steps.f_narrow(1, 0, 1)?.f_zeros_like()?;
            let sums = steps.f_flip([1])?.f_cumsum(1, Kind::Float)?;
            let behind = Tensor::f_cat(&[none, sums.f_narrow(1, 0, segments - 1)?], 1)?.f_flip([1])?;
            let ends = self.decay(&behind)?.f_mul(&self.ends)?.f_sum_dim_intlist(1, false, Kind::Float)?;
            Tensor::f_cat(&[ends, sums.f_narrow(1, segments - 1, 1)?.f_transpose(1, 2)?], -1)?
        };
        let all = Tensor::f_empty([world.size() as i64, batch, channels, states + 1], (Kind::Float, own.device()))?;
        let pending = world.all_gather(&all, &own)?;
        Ok((all, pending))
    }

    /// `exp(A Δ)`, `[…, channel, state]`, of sums of step sizes, `[…, channel]`.
    fn decay(&self, steps: &Tensor) -> Result<Tensor, TorchError> {
        Ok(steps.f_unsqueeze(-1)?.f_mul(self.a)?.f_exp_()?)
    }

    /// What another's strip, `[batch, channel, state + 1]`, makes of `state`.
    fn after(&self, strip: &Tensor, state: &Tensor) -> Result<Tensor, TorchError> {
        let states = state.size()[2];
        let mut decay = self.decay(&strip.f_select(-1, states)?)?;
        Ok(decay.f_mul_(state)?.f_add_(&strip.f_narrow(-1, 0, states)?)?)
    }

    /// Adds to the end of the first segment what becomes of the first `state`.
    fn start_from(&self, state: &Tensor) -> Result<(), TorchError> {
        let (batch, segments, channels, _) = self.ends.size4()?;
        let decay = self.decay(&self.steps.f_view([batch, segments, channels])?.f_select(1, 0)?)?;
        let _ = self.ends.f_select(1, 0)?.f_addcmul_(&decay, state)?;
        Ok(())
    }
}
