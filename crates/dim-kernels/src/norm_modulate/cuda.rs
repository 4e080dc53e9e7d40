//! The op on a GPU: kernels/norm_modulate.

use std::ffi::c_void;

use super::params::{NormModulateBackward, NormModulateForward, NormModulateInputs, NormModulateSums};
use super::shape::Sizes;
use super::{Norm, NormModulate, NormModulateGradients, NormModulateOutputs, Upstream};
use crate::cuda::{self, Launch, Place, Stream, Sum, Workspace, size, sum_partials};
use crate::error::KernelError;
use crate::view::{DType, TensorView};

// As in kernels/norm_modulate/rows.cuh and sums.cuh.
const PACK_WIDTH: usize = 8;
const MOST_THREADS: usize = 512;
const WARP: usize = 32;
const SUM_THREADS: usize = 256;
const MOST_GROUPS: usize = 32;

/// Bytes of an access, which packs are aligned to.
const ACCESS: usize = 16;

/// Which tokens a block takes, and which kernel.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Whether rows are read in packs.
    packs: bool,
    /// Tokens of a block.
    tokens: usize,
    /// Blocks of a sequence.
    blocks: usize,
    threads: usize,
}

impl Plan {
    /// Blocks of few tokens: they come and go, and even out by themselves.
    fn forward(sizes: Sizes, packs: bool) -> Self {
        let tokens = (sizes.batch * sizes.token).div_ceil(AT_ONCE).clamp(2, FORWARD_TOKENS);
        Self::new(sizes, packs, sizes.token.div_ceil(tokens))
    }

    /// Blocks of many tokens, since each hands on sums, in as many waves as fill the multiprocessors: a sequence has a
    /// whole number of blocks.
    fn backward(sizes: Sizes, packs: bool) -> Self {
        let waves = (sizes.batch * sizes.token).div_ceil(AT_ONCE * BACKWARD_TOKENS);
        let blocks = (AT_ONCE * waves).checked_div(sizes.batch).unwrap_or(0);
        Self::new(sizes, packs, blocks.min(sizes.token.div_ceil(2)))
    }

    /// So many blocks a sequence, or one.
    fn new(sizes: Sizes, packs: bool, blocks: usize) -> Self {
        let tokens = sizes.token.div_ceil(blocks.max(1)).max(1);
        let channels_of_thread = if packs { PACK_WIDTH } else { 1 };
        let threads = sizes.channel.div_ceil(channels_of_thread).next_multiple_of(WARP).min(MOST_THREADS);
        // Rows without channels are none.
        let blocks = if sizes.channel == 0 { 0 } else { sizes.token.div_ceil(tokens) };
        Self { packs, tokens, blocks, threads }
    }

    fn launch<'a>(&self, sizes: Sizes, source: &'a str, kernel: &'a str) -> Launch<'a> {
        Launch { source, kernel, blocks: sizes.batch * self.blocks, threads: size(self.threads), shared_bytes: 0 }
    }

    /// Source and symbol of a kernel; `variant` is that of the one for packs.
    fn kernel(&self, pass: &str, dtype: DType, variant: &str) -> (String, String) {
        let (dtype, variant) = (cuda::suffix(dtype), if self.packs { variant } else { "_any" });
        (format!("norm_modulate/{pass}_{dtype}"), format!("norm_modulate_{pass}_{dtype}{variant}"))
    }
}

/// Blocks that an H100 or H200 runs at once, at the width of the larger networks; others need not be fitted so well.
const AT_ONCE: usize = 4 * 132;

// Tokens of a block, at most. On an H200, at 16 × 4494 tokens of 1536 channels in bf16, the forward pass took 329 µs with
// blocks of 8 tokens, 334 with 16 and 341 with 24; the backward pass 526 µs with 28, 521 with 35 and 512 with 46, in whole waves.
const FORWARD_TOKENS: usize = 8;
const BACKWARD_TOKENS: usize = 48;

fn is_f32(dtype: DType) -> u32 {
    (dtype == DType::F32).into()
}

/// Whether the kernels for packs can take these rows.
fn in_packs(sizes: Sizes, f32s: &[Place], activations: &[Place], streams: &[(Place, DType)]) -> bool {
    let aligned = |place: &Place, dtype: DType| {
        let size = dtype.size_bytes();
        let whole = |stride: i64| (stride * size as i64) % ACCESS as i64 == 0;
        place.pointer.addr().is_multiple_of(ACCESS) && whole(place.batch_stride()) && whole(place.row_stride())
    };
    sizes.channel.is_multiple_of(PACK_WIDTH)
        && sizes.channel <= MOST_THREADS * PACK_WIDTH
        && f32s.iter().all(|place| aligned(place, DType::F32))
        && activations.iter().all(|place| aligned(place, sizes.activation))
        && streams.iter().all(|(place, dtype)| aligned(place, *dtype))
}

/// Where the inputs lie.
struct Inputs {
    y: Place,
    /// gate, scale, shift, weight, bias
    vectors: [Place; 5],
}

impl Inputs {
    fn new(op: &NormModulate<'_>) -> Self {
        let gate = op.branch.as_ref().and_then(|branch| branch.gate.as_ref());
        let vectors = [gate, op.scale.as_ref(), op.shift.as_ref(), op.weight.as_ref(), op.bias.as_ref()];
        Self {
            y: Place::of_optional(op.branch.as_ref().map(|branch| &branch.y)),
            vectors: vectors.map(Place::of_optional),
        }
    }

    fn params(&self, op: &NormModulate<'_>, sizes: Sizes, plan: Plan) -> NormModulateInputs {
        let [gate, scale, shift, weight, bias] = self.vectors;
        let (norm, eps) = match op.norm {
            Norm::None => (0, 0.0),
            Norm::Rms { eps } => (1, eps),
            Norm::Layer { eps } => (2, eps),
        };
        NormModulateInputs {
            y: self.y.pointer,
            gate: gate.pointer.cast(),
            scale: scale.pointer.cast(),
            shift: shift.pointer.cast(),
            weight: weight.pointer.cast(),
            bias: bias.pointer.cast(),
            y_batch_stride: self.y.batch_stride(),
            y_token_stride: self.y.row_stride(),
            gate_batch_stride: gate.row_stride(),
            scale_batch_stride: scale.row_stride(),
            shift_batch_stride: shift.row_stride(),
            gate_offset: op.branch.map_or(0.0, |branch| branch.gate_offset),
            eps,
            norm,
            batch: size(sizes.batch),
            token: size(sizes.token),
            channel: size(sizes.channel),
            block_tokens: size(plan.tokens),
        }
    }
}

pub(super) fn forward(
    (ordinal, stream): (usize, *mut c_void),
    op: &NormModulate<'_>,
    sizes: Sizes,
    x_view: &TensorView<'_>,
    outputs: &mut NormModulateOutputs<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("norm_modulate::forward", ordinal, stream)?;
    let inputs = Inputs::new(op);
    let x = Place::of(x_view);
    let [r, out, statistics] =
        [&mut outputs.r, &mut outputs.out, &mut outputs.statistics].map(|view| Place::of_optional_mut(view.as_mut()));
    let [gate, scale, shift, weight, bias] = inputs.vectors;
    let x_dtype = x_view.layout.dtype;
    let packs = in_packs(sizes, &[r, gate, scale, shift, weight, bias], &[inputs.y, out], &[(x, x_dtype)]);
    let plan = Plan::forward(sizes, packs);
    let mut params = NormModulateForward {
        inputs: inputs.params(op, sizes, plan),
        x: x.pointer,
        r: r.pointer.cast(),
        out: out.pointer,
        statistics: statistics.pointer.cast(),
        x_batch_stride: x.batch_stride(),
        x_token_stride: x.row_stride(),
        r_batch_stride: r.batch_stride(),
        r_token_stride: r.row_stride(),
        out_batch_stride: out.batch_stride(),
        out_token_stride: out.row_stride(),
        statistics_batch_stride: statistics.batch_stride(),
        statistics_token_stride: statistics.row_stride(),
        x_is_f32: is_f32(x_dtype),
    };
    let (source, kernel) = plan.kernel("fwd", sizes.activation, "");
    // SAFETY: the kernel takes one `NormModulateForward`, and every pointer is that of a checked view of these sizes.
    unsafe { stream.launch(plan.launch(sizes, &source, &kernel), &mut [(&raw mut params).cast()]) }
}

pub(super) fn backward(
    (ordinal, stream): (usize, *mut c_void),
    op: &NormModulate<'_>,
    sizes: Sizes,
    upstream: &Upstream<'_>,
    gradients: &mut NormModulateGradients<'_>,
) -> Result<(), KernelError> {
    let stream = Stream::enter("norm_modulate::backward", ordinal, stream)?;
    let inputs = Inputs::new(op);
    let r = Place::of(upstream.r);
    let [grad_out, grad_r] = [upstream.grad_out, upstream.grad_r].map(Place::of_optional);
    // Without a gradient through the norm nobody needs them.
    let through_norm = op.norm != Norm::None && upstream.grad_out.is_some();
    let statistics = Place::of_optional(upstream.statistics.filter(|_| through_norm));
    let [grad_x, grad_y] = [&mut gradients.x, &mut gradients.y].map(|view| Place::of_optional_mut(view.as_mut()));
    let [gate, scale, shift, weight, bias] = inputs.vectors;
    let r_dtype = upstream.r.layout.dtype;
    let grad_r_dtype = upstream.grad_r.map_or(DType::F32, |view| view.layout.dtype);
    let grad_x_dtype = gradients.x.as_ref().map_or(DType::F32, |view| view.layout.dtype);
    let streams = [(r, r_dtype), (grad_r, grad_r_dtype), (grad_x, grad_x_dtype)];
    let packs = in_packs(sizes, &[gate, scale, shift, weight, bias], &[inputs.y, grad_out, grad_y], &streams);
    let plan = Plan::backward(sizes, packs);

    let NormModulateGradients {
        gate: of_gate, scale: of_scale, shift: of_shift, weight: of_weight, bias: of_bias, ..
    } = gradients;
    let rows = [of_gate, of_scale, of_shift].map(|view| Place::of_optional_mut(view.as_mut()));
    let any_sums = rows.iter().any(|place| !place.pointer.is_null()) || of_weight.is_some() || of_bias.is_some();
    // The shares of a single sequence are the sums.
    let shares = |wanted: bool| if wanted && sizes.batch != 1 { sizes.batch * sizes.channel } else { 0 };
    let partials = if any_sums { sizes.batch * plan.blocks * 3 * sizes.channel } else { 0 };
    let lengths = [partials, shares(of_weight.is_some()), shares(of_bias.is_some())];
    let mut workspace = Workspace::new(&stream, &lengths)?;
    let [partials, weight_shares, bias_shares] = lengths.map(|length| workspace.take(length));

    let reads_r = op.norm != Norm::None || of_weight.is_some() || of_scale.is_some();
    let mut params = NormModulateBackward {
        inputs: inputs.params(op, sizes, plan),
        r: if reads_r { r.pointer } else { std::ptr::null() },
        statistics: statistics.pointer.cast(),
        grad_out: grad_out.pointer,
        grad_r: grad_r.pointer,
        grad_x: grad_x.pointer,
        grad_y: grad_y.pointer,
        partials,
        r_batch_stride: r.batch_stride(),
        r_token_stride: r.row_stride(),
        statistics_batch_stride: statistics.batch_stride(),
        statistics_token_stride: statistics.row_stride(),
        grad_out_batch_stride: grad_out.batch_stride(),
        grad_out_token_stride: grad_out.row_stride(),
        grad_r_batch_stride: grad_r.batch_stride(),
        grad_r_token_stride: grad_r.row_stride(),
        grad_x_batch_stride: grad_x.batch_stride(),
        grad_x_token_stride: grad_x.row_stride(),
        grad_y_batch_stride: grad_y.batch_stride(),
        grad_y_token_stride: grad_y.row_stride(),
        r_is_f32: is_f32(r_dtype),
        grad_r_is_f32: is_f32(grad_r_dtype),
        grad_x_is_f32: is_f32(grad_x_dtype),
    };
    let (source, kernel) =
        plan.kernel("bwd", sizes.activation, if matches!(op.norm, Norm::Layer { .. }) { "_centred" } else { "" });
    // SAFETY: the kernel takes one `NormModulateBackward`; every pointer is that of a checked view of these sizes, or of the
    // workspace's part that has room for the sums of this plan's blocks.
    unsafe { stream.launch(plan.launch(sizes, &source, &kernel), &mut [(&raw mut params).cast()])? };
    if !any_sums {
        return Ok(());
    }

    let [grad_gate, grad_scale, grad_shift] = rows;
    let contribution = |view: &mut Option<_>, shares: *mut f32| match view {
        Some(view) if sizes.batch == 1 => Place::of_mut(view).pointer.cast(),
        _ => shares,
    };
    // Groups that are worth their threads: each has some four blocks' sums to add.
    let groups = (1 + plan.blocks / 8).next_power_of_two().min(MOST_GROUPS);
    let mut sums = NormModulateSums {
        partials,
        scale: scale.pointer.cast(),
        weight: weight.pointer.cast(),
        bias: bias.pointer.cast(),
        grad_gate: grad_gate.pointer.cast(),
        grad_scale: grad_scale.pointer.cast(),
        grad_shift: grad_shift.pointer.cast(),
        grad_weight: contribution(of_weight, weight_shares),
        grad_bias: contribution(of_bias, bias_shares),
        scale_batch_stride: scale.row_stride(),
        grad_gate_batch_stride: grad_gate.row_stride(),
        grad_scale_batch_stride: grad_scale.row_stride(),
        grad_shift_batch_stride: grad_shift.row_stride(),
        batch: size(sizes.batch),
        channel: size(sizes.channel),
        blocks: size(plan.blocks),
        groups: size(groups),
    };
    let launch = Launch {
        source: "norm_modulate/sums",
        kernel: "norm_modulate_sums",
        blocks: sizes.batch * sizes.channel.div_ceil(SUM_THREADS / groups),
        threads: size(SUM_THREADS),
        shared_bytes: 0,
    };
    // SAFETY: the kernel takes one `NormModulateSums`, whose pointers are as above; the partial sums were written by the
    // launch before, and the shares are before the last launches read them.
    unsafe {
        stream.launch(launch, &mut [(&raw mut sums).cast()])?;
        if sizes.batch == 1 {
            return Ok(());
        }
        let shares = [(of_weight, weight_shares), (of_bias, bias_shares)];
        let sums =
            shares.into_iter().filter_map(|(gradient, shares)| Some(Sum::new(shares, sizes.batch, gradient.as_mut()?)));
        sum_partials(&stream, DType::F32, &sums.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_every_token_once() {
        for batch in [0, 1, 2, 3, 56, 192, 5000] {
            for token in [0, 1, 2, 3, 17, 366, 1230, 4494, 17166] {
                let sizes = Sizes { batch, token, channel: 1536, activation: DType::Bf16 };
                for (plan, most) in
                    [(Plan::forward(sizes, true), FORWARD_TOKENS), (Plan::backward(sizes, true), token.max(1))]
                {
                    assert!(plan.tokens >= 1 && plan.tokens <= most, "{sizes:?}: {plan:?}");
                    assert!(plan.blocks * plan.tokens >= token, "{sizes:?}: {plan:?}");
                    assert!(plan.blocks == 0 || (plan.blocks - 1) * plan.tokens < token, "{sizes:?}: {plan:?}");
                    assert_eq!(plan.threads, 192);
                }
            }
        }
    }
}
