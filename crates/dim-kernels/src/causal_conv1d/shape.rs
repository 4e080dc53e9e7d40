//! Every check of the convolution's arguments; runs before any pointer is taken.

use super::{CausalConv1d, CausalConv1dGradients};
use crate::check::Check;
use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{TensorView, TensorViewMut};

/// The sizes that the arguments agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) token: usize,
    pub(super) channel: usize,
    pub(super) width: usize,
}

/// The arguments beside the convolution itself.
pub(super) enum Call<'a> {
    Forward { out: &'a TensorViewMut<'a> },
    Backward { grad_out: &'a TensorView<'a>, gradients: &'a CausalConv1dGradients<'a> },
}

/// Checks a call and returns its sizes: `x` sets batch, token and channel, `weight` sets width.
pub(super) fn check(queue: &Queue, conv: &CausalConv1d<'_>, call: Call<'_>) -> Result<Sizes, KernelError> {
    let op = match call {
        Call::Forward { .. } => "causal_conv1d::forward",
        Call::Backward { .. } => "causal_conv1d::backward",
    };
    let check = Check { op, queue };

    let [batch, token, channel] = check.sizes("x", &conv.x.layout, "[batch, token, channel]")?;
    let [_, width] = check.sizes("weight", &conv.weight.layout, "[channel, width]")?;
    let sequence = [("batch", batch), ("token", token), ("channel", channel)];
    let filter = [("channel", channel), ("width", width)];
    let vector = [("channel", channel)];

    check.input("x", &conv.x.layout, &sequence)?;
    check.input("weight", &conv.weight.layout, &filter)?;
    if width == 0 {
        return Err(KernelError::Empty { op, argument: "weight", axis: "width" });
    }
    check.optional_input("bias", conv.bias.as_ref(), &vector)?;
    check.token_map(conv.token_map, token)?;
    check.countable("x", &sequence)?;
    check.kernel_exists("weight", ("width", width), &super::cuda::WIDTHS)?;
    dtypes(&check, conv, &call)?;

    match call {
        Call::Forward { out } => check.output("out", &out.layout, &sequence)?,
        Call::Backward { grad_out, gradients } => {
            check.input("grad_out", &grad_out.layout, &sequence)?;
            check.output("gradients.x", &gradients.x.layout, &sequence)?;
            check.output("gradients.weight", &gradients.weight.layout, &filter)?;
            let given = conv.bias.is_some();
            check.optional_gradient("gradients.bias", gradients.bias.as_ref(), given, &vector)?;
        }
    }
    Ok(Sizes { batch, token, channel, width })
}

/// Activations and their gradients are of one dtype, that of `x`; everything else is f32.
fn dtypes(check: &Check<'_>, conv: &CausalConv1d<'_>, call: &Call<'_>) -> Result<(), KernelError> {
    let mut activations = Vec::new();
    let mut others = vec![("weight", &conv.weight.layout)];
    others.extend(conv.bias.iter().map(|bias| ("bias", &bias.layout)));
    match call {
        Call::Forward { out } => activations.push(("out", &out.layout)),
        Call::Backward { grad_out, gradients } => {
            activations.extend([("grad_out", &grad_out.layout), ("gradients.x", &gradients.x.layout)]);
            others.push(("gradients.weight", &gradients.weight.layout));
            others.extend(gradients.bias.iter().map(|bias| ("gradients.bias", &bias.layout)));
        }
    }
    for (argument, layout) in activations {
        check.dtype(argument, layout, conv.x.dtype(), "of the dtype of `x`")?;
    }
    others.into_iter().try_for_each(|(argument, layout)| check.f32(argument, layout))
}
